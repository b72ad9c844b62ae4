# SPDX-License-Identifier: Apache-2.0
"""
Packed bundles of volumes in MONAI Label and in the MONAI Deploy SDK: the voxels of `run inference`.

Once as these two run a bundle, which needs neither of them; once with the real ones, each in an environment of its own
(extras ``label`` and ``deploy``): they ask for other versions of shared packages.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_runs import ACDC, BUNDLES, SMALL, config_of, load, parse, read, run
from monai.bundle import ConfigParser
from monai.data import MetaTensor, load_net_with_metadata
from monai.transforms import SaveImaged

from monai_sam2adapter.bundle import export_bundle, pack_bundle
from monai_sam2adapter.data import write_acdc_phantom

BUNDLES_OF_VOLUMES = [ACDC, BUNDLES / "synapse_multiorgan_segmentation", BUNDLES / "volume_segmentation"]
# turned against LPS and oblong, so that a result in another place or order is not the same
AFFINE = np.array([[0, 0, 8.0, -30], [1.5, 0, 0, -40], [0, 2.0, 0, 50], [0, 0, 0, 1]])


class Served(NamedTuple):
    """A packed bundle as it is downloaded, a scan, and what `run inference` makes of it."""

    bundle: Path
    scan: Path
    labels: np.ndarray


@pytest.fixture(scope="module", params=BUNDLES_OF_VOLUMES, ids=lambda bundle: bundle.name)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Served:
    bundle, folder = request.param, tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    network = parse(bundle, "inference").get_parsed_content("network_def")
    network.sam_mask_decoder.class_tokens.weight.data.normal_(std=3)  # else one class is everywhere
    torch.save(network.state_dict(), folder / "model.pt")
    if "default_description" in read(bundle, "inference"):
        known = {"fingerprint": {}, "orientation": "LPS", "slices_by": "both"}  # what a training has kept
        description = {**read(bundle, "inference")["default_description"], **known}
        (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    settings = {key: SMALL[key] for key in ("adapter", "image_size", "batch_size")}
    packed = pack_bundle(bundle, folder / "model.pt", folder, settings=settings)
    monai.bundle.download(name=bundle.name, url=packed.path.as_uri(), bundle_dir=folder, progress=False)
    values = np.random.default_rng(0).normal(size=(41, 36, 5)).cumsum(0).cumsum(1)
    values = (values - values.min()) / np.ptp(values) * 2000 - 1000  # Hounsfield units, or anything
    nib.save(nib.Nifti1Image(values.astype(np.float32), AFFINE), folder / "scan.nii.gz")
    run(folder / bundle.name, "inference", "inference", dataset_dir=folder / "scan.nii.gz", output_dir=folder / "own")
    labels = np.asarray(nib.load(folder / "own" / "scan_seg.nii.gz").dataobj)
    assert len(np.unique(labels)) > 1
    return Served(folder / bundle.name, folder / "scan.nii.gz", labels)


def as_label_does(bundle: Path, scan: Path) -> np.ndarray:
    """The transforms one by one, on a dictionary that is MONAI Label's request; only MONAI's saver is left out."""
    config = ConfigParser()
    config.read_config(bundle / "configs" / "inference.json")
    config.config.update({"bundle_root": str(bundle), "device": "cpu"})
    network = config.get_parsed_content("network_def")
    network.load_state_dict(load(bundle / "models" / "model.pt"), strict=False)
    data: Any = {"model": bundle.name, "image": str(scan), "image_path": str(scan), "model_filename": ["model.pt"]}
    for transform in config.get_parsed_content("preprocessing").transforms:
        data = transform(data)
    with torch.no_grad():
        data["pred"] = config.get_parsed_content("inferer")(data["image"][None], network.eval())[0]
    for transform in config.get_parsed_content("postprocessing").transforms:
        if not isinstance(transform, SaveImaged):
            data = transform(data)
    np.testing.assert_allclose(data["pred"].affine, AFFINE, atol=1e-4)
    return data["pred"][0].numpy()


def as_deploy_does(model: Path, scan: Path) -> np.ndarray:
    """Without what loads or saves images, on an image in memory without a channel; of a folder or an exported file."""
    config = ConfigParser()
    if model.is_dir():
        config.read_meta(model / "configs" / "metadata.json")
        config.read_config(model / "configs" / "inference.json")
        network = config.get_parsed_content("network")
        network.load_state_dict(load(model / "models" / "model.pt"))
        network.eval()
    elif model.suffix == ".pt2":
        files = {"metadata.json": "", "inference.json": ""}
        network = torch.export.load(model, extra_files=files).module()
        config.read_meta(json.loads(files["metadata.json"]))
        config.read_config(json.loads(files["inference.json"]))
    else:
        network, metadata, files = load_net_with_metadata(str(model), more_extra_files=("inference.json",))
        config.read_meta(metadata)
        config.read_config(json.loads(files["inference.json"]))
        network.eval()
    before, after = (config.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))
    for steps in (before, after):
        steps.transforms = tuple(
            step for step in steps.transforms if not {"LoadImage", "SaveImage"} & {type(step).__name__.rstrip("d")}
        )
    image = nib.load(scan)
    meta = {"affine": image.affine, "original_affine": image.affine, "original_channel_dim": "no_channel"}
    data = before({"image": MetaTensor.ensure_torch_and_prune_meta(image.get_fdata(dtype=np.float32), meta)})
    with torch.no_grad():
        found = config.get_parsed_content("inferer")(inputs=data["image"][None], network=network)
    return after({"pred": found[0], "image": data["image"]})["pred"][0].numpy()


def export(served: Served, folder: Path) -> Path:
    bundle = served.bundle
    files = {"meta_file": config_of(bundle, "metadata")[0], "config_file": config_of(bundle, "inference")[0]}
    channels = read(bundle, "metadata")["network_data_format"]["inputs"]["image"]["num_channels"]
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(folder / "model.ts"),
        ckpt_file=str(bundle / "models" / "model.pt"),
        use_trace=True,
        input_shape=[1, channels, 32, 32],
        bundle_root=str(bundle),
        **files,
    )
    return folder / "model.ts"


def test_transforms_run_as_in_monai_label(served: Served) -> None:
    np.testing.assert_array_equal(as_label_does(served.bundle, served.scan), served.labels)


@pytest.mark.parametrize("form", ["folder", "exported"])
def test_transforms_run_as_in_monai_deploy(
    form: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = served.bundle if form == "folder" else export(served, tmp_path)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(as_deploy_does(model, served.scan), served.labels)


@pytest.mark.slow
def test_an_exported_program_carries_what_inference_needs(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = export_bundle(served.bundle, "pt2", tmp_path / "model.pt2")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(as_deploy_does(exported.path, served.scan), served.labels)


class Studies:
    """MONAI Label's store of images with labels, as far as its training looks at it: phantoms fit for every bundle."""

    def __init__(self, folder: Path) -> None:
        write_acdc_phantom(folder, num_train=1, num_val=1, num_test=0, progress=False)
        self.labels = sorted(folder.rglob("*_gt.nii.gz"))
        for label in self.labels:
            image = Path(self._image_of(label))
            for path, change in ((image, lambda voxels: voxels - 1000.0), (label, lambda voxels: voxels > 0)):
                found = nib.load(path)
                voxels = change(np.asarray(found.dataobj)).astype(np.float32)
                nib.save(nib.Nifti1Image(voxels, found.affine), path)

    def datalist(self) -> list[dict[str, str]]:
        return [{"image": self._image_of(label), "label": str(label)} for label in self.labels]

    @staticmethod
    def _image_of(label: Path) -> str:
        return str(label).replace("_gt.nii", ".nii")


class TestMonaiLabel:
    """The real one, 0.8.5."""

    @pytest.fixture
    def task(self) -> Callable[[Served], Any]:
        module = pytest.importorskip("monailabel.tasks.infer.bundle", reason="install the extra 'label'")
        return lambda served: module.BundleInferTask(str(served.bundle), {})

    def test_is_a_segmentation_with_the_labels_of_the_bundle(self, served: Served, task: Callable[..., Any]) -> None:
        info = task(served).info()
        names = read(served.bundle, "metadata")["network_data_format"]["outputs"]["pred"]["channel_def"]
        assert info["labels"] == {name.lower(): int(number) for number, name in names.items() if number != "0"}
        assert (str(info["type"].value), info["version"]) == (
            "segmentation",
            read(served.bundle, "metadata")["version"],
        )
        assert info["dimension"] == 2, "that of the network"

    def test_gives_the_labels_in_the_place_of_the_scan(self, served: Served, task: Callable[..., Any]) -> None:
        file, _ = task(served)({"model": served.bundle.name, "image": str(served.scan), "device": "cpu"})
        found = nib.load(file)
        np.testing.assert_array_equal(np.asarray(found.dataobj), served.labels)
        np.testing.assert_allclose(found.affine, AFFINE, atol=1e-4)

    @pytest.mark.slow
    def test_trains_with_its_defaults_and_serves_the_result(
        self, served: Served, task: Callable[..., Any], tmp_path: Path
    ) -> None:
        module = pytest.importorskip("monailabel.tasks.train.bundle")
        best = served.bundle / "models" / "model.pt"
        start = best.read_bytes()
        trainer = module.BundleTrainTask(str(served.bundle), {})
        assert trainer.is_valid()
        request = {"model": served.bundle.name, "device": "cpu", "max_epochs": 2}
        try:
            studies = Studies(tmp_path / "scans")
            for _ in range(2):  # whoever labels, trains again and again
                trainer(request, studies)
            state = load(best.parent / "training" / "last.pt")
            assert (state["epoch"], state["max_epochs"]) == (2, 2)
            again = task(served)
            assert again.config()["model_filename"] == ["model.pt"]
            file, _ = again({"model": served.bundle.name, "image": str(served.scan), "device": "cpu"})
            run(served.bundle, "inference", "inference", dataset_dir=served.scan, output_dir=tmp_path / "own")
            expected = np.asarray(nib.load(tmp_path / "own" / "scan_seg.nii.gz").dataobj)
            np.testing.assert_array_equal(np.asarray(nib.load(file).dataobj), expected)
        finally:
            best.write_bytes(start)


@pytest.mark.parametrize("form", ["folder", "exported"])
def test_an_application_of_monai_deploy_gives_the_same(
    form: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one, 4.0.0, run by Holoscan on this machine."""
    operators = pytest.importorskip("monai.deploy.operators", reason="install the extra 'deploy'")
    core = pytest.importorskip("monai.deploy.core")
    conditions = pytest.importorskip("holoscan.conditions")
    mapping = operators.monai_bundle_inference_operator.IOMapping
    model = served.bundle if form == "folder" else export(served, tmp_path)
    image, found = nib.load(served.scan), []

    class Source(core.Operator):
        def setup(self, spec: Any) -> None:
            spec.output("image")

        def compute(self, inputs: Any, outputs: Any, context: Any) -> None:
            meta = dict.fromkeys(("row_pixel_spacing", "col_pixel_spacing", "depth_pixel_spacing"), 1.0)
            voxels = np.swapaxes(image.get_fdata(dtype=np.float32), 0, 2)  # as the SDK's operators order axes
            outputs.emit(core.Image(voxels, {**meta, "nifti_affine_transform": image.affine}), "image")

    class Sink(core.Operator):
        def setup(self, spec: Any) -> None:
            spec.input("pred")

        def compute(self, inputs: Any, outputs: Any, context: Any) -> None:
            found.append(np.swapaxes(inputs.receive("pred").asnumpy(), 0, 2))

    class Segmentation(core.Application):
        def compose(self) -> None:
            source = Source(self, conditions.CountCondition(self, 1), name="source")
            operator = operators.MonaiBundleInferenceOperator(
                self,
                app_context=core.AppContext({}),
                input_mapping=[mapping("image", core.Image, core.IOType.IN_MEMORY)],
                output_mapping=[mapping("pred", core.Image, core.IOType.IN_MEMORY)],
                bundle_path=model,
                name="bundle",
            )
            self.add_flow(source, operator, {("image", "image")})
            self.add_flow(operator, Sink(self, name="sink"), {("pred", "pred")})

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["application"])
    Segmentation().run()
    logging.getLogger().handlers.clear()
    np.testing.assert_array_equal(found[0], served.labels)
