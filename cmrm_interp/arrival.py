"""What runs first on the far side of a remote run: it is sent by its source, and imports nothing of this package."""

from typing import Any


def unpack(shipment: dict[str, Any], envoy: Any, tensors: dict[str, Any]) -> Any:
    """The job in a shipment, ready to run on the far side's model.

    Where this package is not installed, its modules are made from the sources that came along.

    Args:
        shipment: as `cmrm_interp.remote.pack` made it.
        envoy: nnsight's wrapper of the far side's model.
        tensors: inputs of the model.
    """
    import importlib.abc
    import importlib.machinery
    import importlib.util
    import sys

    class Shipped(importlib.abc.MetaPathFinder, importlib.abc.Loader):
        """Finds the package's modules in the shipment."""

        def __init__(self, sources, version):
            self.sources, self.version = sources, version

        def find_spec(self, name, path=None, target=None):
            """Where a module is."""
            if name not in self.sources:
                return None
            inner = any(other.startswith(name + ".") for other in self.sources)
            return importlib.machinery.ModuleSpec(name, self, is_package=inner)

        def exec_module(self, module):
            """Run a module's source."""
            name = module.__name__
            exec(compile(self.sources[name], f"<{name}, shipped>", "exec"), module.__dict__)

    package, version = shipment["package"], shipment["version"]
    others = [f for f in sys.meta_path if getattr(f, "version", version) != version]
    if others:
        # A process that serves several requests may hold another version of the package.
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            del sys.modules[name]
        sys.meta_path[:] = [f for f in sys.meta_path if f not in others]
    if importlib.util.find_spec(package) is None:
        sources = dict(shipment["sources"])
        if importlib.util.find_spec("jaxtyping") is None:
            sources[package + ".axes"] = shipment["axes"]
        sys.meta_path.append(Shipped(sources, version))
    remote = importlib.import_module(package + ".remote")
    return remote.Job.load(shipment["payload"], envoy, tensors)


def outcome(tracer: Any) -> Any:
    """What is sent back of a run: logits of a forward pass, tokens of a generation, nothing if it was left early.

    Args:
        tracer: nnsight's, of the run.
    """
    import torch
    from nnsight.intervention.interleaver import OutOfOrderError

    try:
        result = tracer.result
    except OutOfOrderError:
        return torch.empty(0)
    return getattr(result, "logits", result).detach().cpu()
