# SPDX-License-Identifier: Apache-2.0
"""An evaluation side by side gives what MONAI's evaluator gives one case after the other."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.handlers import MeanDice, from_engine
from monai.transforms import AsDiscreted

from monai_sam2adapter.engines import PipelinedEvaluator
from monai_sam2adapter.inferers import ResizeInferer
from monai_sam2adapter.transforms import SegmentLogitsd

EVENTS = (
    *(Events.STARTED, Events.EPOCH_STARTED, Events.GET_BATCH_STARTED, Events.GET_BATCH_COMPLETED),
    *(Events.ITERATION_STARTED, IterationEvents.FORWARD_COMPLETED, IterationEvents.MODEL_COMPLETED),
    *(Events.ITERATION_COMPLETED, Events.EPOCH_COMPLETED, Events.COMPLETED),
)


def evaluate(kind: type[SupervisedEvaluator]) -> tuple[list[Any], dict[str, float], torch.nn.Module]:
    """Events with what the handlers see of each, the metrics and the network."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3, padding=1), torch.nn.Dropout(0.5)).train()
    items = [{"image": torch.randn(1, 9, 7), "label": torch.randint(0, 3, (1, 9, 7)), "case": str(k)} for k in range(5)]
    evaluator = kind(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        postprocessing=AsDiscreted(("pred", "label"), argmax=(True, False), to_onehot=3),
        key_val_metric={"dice": MeanDice(output_transform=from_engine(["pred", "label"]))},
    )
    seen: list[Any] = []

    def note(engine: SupervisedEvaluator, event: Any) -> None:
        batch, output = engine.state.batch, engine.state.output
        cases = [item["case"] for item in batch] if isinstance(batch, list) else batch and batch["case"]
        preds = [item["pred"].tolist() for item in output] if isinstance(output, list) else None
        seen.append((str(event), engine.state.iteration, cases, preds))

    for event in EVENTS:
        evaluator.add_event_handler(event, note, event)
    evaluator.run(3)
    evaluator.run(4)
    return seen, evaluator.state.metrics, network


def test_events_outputs_and_metrics_are_those_of_monais_evaluator() -> None:
    seen, metrics, network = evaluate(PipelinedEvaluator)
    expected, expected_metrics, _ = evaluate(SupervisedEvaluator)
    assert seen == expected
    assert metrics == expected_metrics
    assert network.training
    assert torch.is_grad_enabled()


def test_autocast_reaches_the_thread_of_the_network() -> None:
    kinds = []

    def infer(image: torch.Tensor, network: Any) -> torch.Tensor:
        kinds.append((torch.is_autocast_enabled("cuda"), torch.is_grad_enabled(), network(image).requires_grad))
        return image

    evaluator = PipelinedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": torch.zeros(1, 4, 4)}])),
        network=torch.nn.Conv2d(1, 1, 1),
        inferer=infer,
        amp=True,
        amp_kwargs={"dtype": torch.bfloat16},
    )
    evaluator.run()
    assert kinds == [(torch.cuda.is_available(), False, False)]


def test_a_compiled_network_gives_maps_in_their_place() -> None:
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    evaluator = PipelinedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset([{"image": MetaTensor(torch.randn(1, 5, 4), affine=affine)}])),
        network=torch.nn.Conv2d(1, 3, 1),
        inferer=ResizeInferer(postprocessing=SegmentLogitsd("pred", uncertainty=True)),
        compile=True,
        compile_kwargs={"backend": "eager"},
    )
    evaluator.run()
    (output,) = evaluator.state.output
    assert output["uncertainty"].shape == output["pred"].shape == (1, 5, 4)
    for key in ("image", "pred", "uncertainty"):
        torch.testing.assert_close(output[key].affine, affine.double())
