"""Parts by their role: how one piece of code serves checkpoints with different names.

A checkpoint names its tensors by where they stand in a tree of modules. BERT keeps a layer's query
projection at `attention.self.query`, Marian at `self_attn.q_proj`. The shared layers do not care:
they ask for the part whose role is "query", and a table of the family, from role to dotted name,
says where it stands. The tree is the file's tree, and it is walked at each call, so that a part
which somebody has exchanged (an adapter, a quantised layer) is the one that runs.

A role can also be a step: a method of the shared layer for which this family's tree has a node of
its own. BERT's `intermediate`, for example, is a module that people hook and exchange, where Marian
computes the same step in the layer itself.
"""

from typing import Any

from torch import nn

Names = dict[str, str]  # role → dotted name, in the order in which the family's files list them


class Part:
    """An attribute that finds a module by its role; None where the family has no such part.

    >>> class Layer(Tree):
    ...     inner = Part()
    >>> layer = Layer({"inner": "intermediate.dense"})
    >>> layer.grow({"inner": nn.Linear(2, 4)})
    >>> layer.inner is layer.intermediate.dense
    True
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.role = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        path = module.paths.get(self.role)
        return None if path is None else find(module, path)


def find(module: Any, path: tuple[str, ...]) -> Any:
    """The module below `module` at `path`, as it stands there now; None where nothing does."""
    for name in path:
        # Not `getattr`: a role and a node may share a name, and torch.compile can trace this.
        module = module._modules.get(name)
        if module is None:
            return None
    return module


class Grown:
    """Of a module: its parts and steps stand where the names of its family say."""

    names: Names

    def set_names(self, names: Names) -> None:
        """Say where parts stand; before any is asked for."""
        self.names = names
        self.paths = {role: tuple(name.split(".")) for role, name in names.items()}

    def grow(self, parts: dict[str, nn.Module]) -> None:
        """Put `parts`, by role, in their places, in the order of the names.

        A role that is not among them is a step with a node of its own, which `make_node` gives, or
        a part that this module does not have.
        """
        for role, path in self.paths.items():
            part = parts[role] if role in parts else self.make_node(role, self.names_below(role))
            if part is not None:
                self.place(path, part)

    def place(self, path: tuple[str, ...], part: nn.Module) -> None:
        """Hang `part` in at `path`; nodes on the way that compute nothing are bare modules."""
        module: Any = self
        for name in path[:-1]:
            if name not in module._modules:
                setattr(module, name, nn.Module())
            module = module._modules[name]
        if module._modules.get(path[-1]) is not part:
            setattr(module, path[-1], part)

    def make_node(self, role: str, names: Names) -> nn.Module | None:
        """The node that computes step `role`, whose own parts stand at `names`; None: no step."""
        return None

    def names_below(self, role: str) -> Names:
        """The names below the node of `role`, as seen from there."""
        start = self.names[role] + "."
        return {
            other: name.removeprefix(start)
            for other, name in self.names.items()
            if name.startswith(start)
        }

    def step(self, role: str, *args: Any, **kwargs: Any) -> Any:
        """Compute a step: by the node that stands for it, so that hooks see it, or right here."""
        path = self.paths.get(role)
        if path is None:
            return getattr(self, role)(*args, **kwargs)
        return find(self, path)(*args, **kwargs)


class Tree(Grown, nn.Module):
    """A module that is grown by names."""

    def __init__(self, names: Names):
        super().__init__()
        self.set_names(names)
