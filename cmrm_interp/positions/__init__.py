"""Token positions: which tokens of a batch ``"last"``, ``"image"``, ``3`` or ``find("cat")`` mean.

Positions are about tokens, not about columns of a padded tensor: numbers count real tokens, whatever
the padding side. During generation a position also has to say what it means for new tokens:

======================================= ==================================================== =================
position                                in the prompt                                        each new token
======================================= ==================================================== =================
``"last"``                              the last real token                                  yes
``"first"``                             the first real token                                 no
``"all"``                               every real token                                     yes
``"prompt"``                            every real token                                     no
``"image"``, ``at("image", 1)``         image tokens; those of the second image of each row  no
``"text"``                              every real token that is no image token              no
``"system"``, ``"user"``                what these turns say, without template and images    no
``"assistant"``                         what earlier answers say (`Prompt.history`)          yes
``"generated"``, ``new()``              none                                                 yes
``new(first=3)``, ``new(steps=[0, 2])`` none                                                 of these numbers
an ``int`` or a ``slice``               counted over real tokens                             no
``find("cat")``, ``re.compile("c.t")``  tokens that overlap a match in the text that the     no
                                        model sees (chat template, images expanded)
``chars(3, 9)``                         tokens that overlap characters of `Prompt.text`      no
``token("<row_1_col_1>", 42)``          tokens of the vocabulary                             no
a function of `Tokens`                  what it returns, at real tokens                      what it returns
``padding()``                           columns that hold no token                           no
``a | b``, ``a & b``                    either, both                                         either, both
``~a``                                  every other real token                               where ``a`` is not
======================================= ==================================================== =================

So ``positions=-1`` edits the last prompt token alone, and ``positions="last"`` goes on with each new one.
Numbers of new tokens start at 0. The token that ends an answer is chosen by the model and not seen by it
again, so nothing can be done at it. A word is never a position: to look for words use `find`.

``at`` makes a value of any position, for ``|``, ``&`` and ``~``: ``at("image", 0) | at(-1)``,
``at("prompt") & ~at("image")``.
"""

from cmrm_interp.positions.base import Selector
from cmrm_interp.positions.data import from_data, to_data
from cmrm_interp.positions.kinds import NAMED
from cmrm_interp.positions.names import (
    Position,
    as_selector,
    at,
    chars,
    check_position,
    find,
    new,
    padding,
    position_mask,
    simple,
    token,
)
from cmrm_interp.positions.tokens import RowText, Said, Source, Tokens, last_index

__all__ = [
    "NAMED",
    "Position",
    "RowText",
    "Said",
    "Selector",
    "Source",
    "Tokens",
    "as_selector",
    "at",
    "chars",
    "check_position",
    "find",
    "from_data",
    "last_index",
    "new",
    "padding",
    "position_mask",
    "simple",
    "to_data",
    "token",
]
