"""Hooks that give an activation to a function and put what it returns in its place."""

import torch


class Taps:
    """Functions by hook point."""

    def __init__(self, edits, rows):
        self.edits, self.rows = edits, rows

    def __call__(self, name, x):
        """The activation, or what its function made of it: the same object if nothing was changed."""
        fn = self.edits.get(name)
        new = None if fn is None else fn(x)
        return x if new is None else new

    def output(self, module, name, shape=None):
        """At a module's output."""

        def hook(module, args, output):
            old = first(output)
            new = self.shaped(name, old, shape)
            return None if new is old else with_first(output, new)

        # transformers keeps hidden states (which LLaVA takes its features from) with hooks of its own: go before them.
        return module.register_forward_hook(hook, prepend=True)

    def input(self, module, name, shape=None, key="hidden_states"):
        """At a module's input."""

        def hook(module, args, kwargs):
            # What is given by name is looked for first: a Q-Former is given its queries without a name.
            old = kwargs[key] if key in kwargs else args[0]
            new = self.shaped(name, old, shape)
            if new is old:
                return None
            return (args, {**kwargs, key: new}) if key in kwargs else ((new, *args[1:]), kwargs)

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    def shaped(self, name, x, shape):
        """The activation seen through a pair of functions, there and back."""
        if shape is None:
            return self(name, x)
        seen = shape[0](x)
        new = self(name, seen)
        return x if new is seen else shape[1](new, x)

    def heads(self, n):
        """Shape of a last axis of `n` heads."""
        return (lambda x: x.unflatten(-1, (n, -1)), lambda new, x: new.flatten(-2))

    @property
    def flat(self):
        """Shape of rows and positions that were joined, where they were."""
        return (lambda x: x.unflatten(0, (self.rows, -1)) if x.ndim == 2 else x, lambda new, x: new.reshape(x.shape))


def columns(part, sizes, then=None):
    """Shape of some columns of the last axis, seen through another shape."""
    start = sum(sizes[:part])

    def there(x):
        unit = x.shape[-1] // sum(sizes)
        mine = x[..., unit * start : unit * (start + sizes[part])]
        return then[0](mine) if then else mine

    def back(new, x):
        unit = x.shape[-1] // sum(sizes)
        mine = x[..., unit * start : unit * (start + sizes[part])]
        out = x.clone()
        out[..., unit * start : unit * (start + sizes[part])] = then[1](new, mine) if then else new
        return out

    return there, back


def first(output):
    return output[0] if isinstance(output, tuple) else output


def with_first(output, new):
    return (new, *output[1:]) if isinstance(output, tuple) else new


def stream_of(args, kwargs):
    """A block's input."""
    return args[0] if args else kwargs["hidden_states"]


def remember(module, seen, key):
    """Keeps a module's input."""

    def hook(module, args, kwargs):
        seen[key] = stream_of(args, kwargs)

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def norm_by_hand(module, x, net, config):
    """What a norm divides, and by what."""
    x = x.float()
    x = x - x.mean(-1, keepdim=True) if net.centred else x
    eps = net.eps if isinstance(net.eps, float) else getattr(config, net.eps)
    return x, torch.sqrt(x.square().mean(-1, keepdim=True) + eps)


def gained(module, plain, net):
    """A norm's output from what it is before the gain."""
    out = plain * (module.weight + net.offset)
    bias = getattr(module, "bias", None)
    return out if bias is None else out + bias
