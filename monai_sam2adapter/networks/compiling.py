# SPDX-License-Identifier: Apache-2.0
"""What torch.compile is given: Inductor, with CUDA graphs on CUDA, and the network as it is where that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch._functorch.config
import torch._inductor

from ..utils.logs import escaping_logger

__all__ = ["InductorOrEager", "compile_options"]

logger = escaping_logger(__name__)

# Training and validation compile one function, each for its own modes; PyTorch gives up after 8 graphs of it.
_MAX_GRAPHS = 64


def compile_options(device: torch.device | str) -> dict[str, Any]:
    """
    The arguments of ``torch.compile`` for a network: ``compile_kwargs`` of MONAI's engines.

    There is one graph for the first batch size and one for all others (a batch of one has its own), each in training
    and in inference mode. Height and width are best the same in all batches: each further size takes a graph.

    Args:
        device: where the network runs. On CUDA the graphs are replayed as CUDA graphs.

    Returns:
        keyword arguments.

    Example:
        >>> import torch
        >>> from monai_sam2adapter.networks.compiling import compile_options
        >>> network = torch.compile(torch.nn.Linear(2, 3), **compile_options("cpu"))
    """
    return {"backend": InductorOrEager(cuda_graphs=torch.device(device).type == "cuda")}


class InductorOrEager:
    """
    A backend of ``torch.compile`` that runs a graph as it is, after one line in the log, when Inductor cannot.

    What can fail is the compilation, without a C++ compiler or Triton for one, or the first runs of what came out of
    it, such as the recording of CUDA graphs. Further graphs are then not tried.

    Args:
        cuda_graphs: whether to replay the kernels as CUDA graphs. Outputs are then copied, since a graph's next run
            writes into the same memory. Defaults to False.
    """

    def __init__(self, cuda_graphs: bool = False) -> None:
        self.cuda_graphs = cuda_graphs
        self.failed = False

    def __call__(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        """
        Args:
            graph: what ``torch.compile`` has recorded.
            inputs: examples of its inputs.

        Returns:
            the function to call in place of it.
        """
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_GRAPHS)
        compiled = _as_it_is(graph, inputs) if self.failed else self._compile(graph, inputs)

        def run(*args: Any) -> Any:
            nonlocal compiled
            try:
                outputs = compiled(*args)
                return tuple(map(_copied, outputs)) if self.cuda_graphs else outputs
            except Exception as error:
                if self.failed:  # not of the compiled graph
                    raise
                self._give_up(error)
                compiled = _as_it_is(graph, args)
            return compiled(*args)

        return run

    def _compile(self, graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        try:
            # the backward pass too, which otherwise would be compiled, and fail, in the midst of a training step
            with torch._functorch.config.patch(force_non_lazy_backward_lowering=True):
                return torch._inductor.compile(graph, list(inputs), {"triton.cudagraphs": self.cuda_graphs})
        except Exception as error:
            self._give_up(error)
            return _as_it_is(graph, inputs)

    def _give_up(self, error: Exception) -> None:
        self.failed = True
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning("torch.compile failed, so the network runs without it: %s", reason)


def _as_it_is(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
    if any("checkpoint" in str(node.target) for node in graph.graph.nodes):
        # run directly, a block that is recomputed would change the statistics of its BatchNorm twice
        return torch._dynamo.lookup_backend("aot_eager")(graph, list(inputs))
    return graph.forward


def _copied(output: Any) -> Any:
    return output.clone() if isinstance(output, torch.Tensor) else output
