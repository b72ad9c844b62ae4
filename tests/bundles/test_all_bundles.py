# SPDX-License-Identifier: Apache-2.0
"""What holds for every bundle: MONAI's own checks, the files of its model zoo, and that all bundles are alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import monai.bundle
import monai.networks
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from monai_sam2adapter.bundle import pack_bundle
from monai_sam2adapter.networks.nets import AdaptedSAM2

SCHEMA = Path(__file__).parent / "meta_schema.json"
# The smallest network and images: nothing here is about accuracy.
TRT = "inference_trt"
SMALL = {"adapter": "full", "image_size": 32, "batch_size": 4, "device": "cpu"}
CONFIGS = (
    *("train", "evaluate", "inference", "multi_gpu_train", "multi_gpu_evaluate", "inference_trt"),
    "metadata",
)
FILES = {
    *(f"configs/{name}.json" for name in CONFIGS),
    *("configs/logging.conf", "docs/README.md", "docs/data_license.txt", "LICENSE", "large_files.yml"),
}
# DESIGN: a command line learnt on one bundle works on all
TRAINING_KEYS = {
    *("dataset_dir", "output_dir", "sam2_checkpoint", "variant", "adapter", "positional_encoding", "image_size"),
    *("epochs", "batch_size", "learning_rate", "amp", "device", "num_workers", "resume", "overwrite", "seed"),
    *("cache_rate", "fold", "split_file", "val_interval", "adapter_config", "macs_budget"),
}
INFERENCE_KEYS = {
    *("dataset_dir", "output_dir", "checkpoint_file", "variant", "adapter", "positional_encoding", "image_size"),
    *("batch_size", "amp", "device", "num_workers", "datalist_key", "output_format", "tta_flips", "largest_component"),
    *("save_probabilities", "save_uncertainty", "skip_existing", "adapter_config", "macs_budget"),
}
# what a network has not
WITHOUT = {"sam2_unext_segmentation": {"positional_encoding"}}
# what a data set may have of its own; all else is the same in every bundle
_INFERER = tuple(f"#{key}" for key in ("_target_", "batch_size", "slice_axis", "num_neighbors"))
DIFFERENT = {
    "train": (
        *("imports", "dataset_dir", "image_size", "crop_size", "slice_axis", "num_neighbors", "foreground_only"),
        *("class_names", "num_classes", "label_map", "network_def#in_channels", "load_volume", "load_image"),
        *("train#preprocessing#transforms", "validate#preprocessing", "validate#dataset#data", "validate#key_metric"),
        *(f"train#dataset#{key}" for key in ("_target_", "data", "volume_transform", "num_neighbors")),
        *(f"train#dataset#{key}" for key in ("slice_axis", "foreground_only", "num_workers")),
        *("validate#handlers#2#slice_axis", "prepare_adapter#build#in_channels"),
        *(f"prepare_adapter#profile#{key}" for key in ("load", "slice_axis")),
        *(f"validate#inferer{key}" for key in _INFERER),
    ),
    "evaluate": (
        *("metrics", "validate#dataset#data", "validate#key_metric"),
        *(f"validate#handlers#0#{key}" for key in ("slice_axis", "title")),
    ),
    "inference": (
        *("image_size", "output_format", "slice_axis", "num_neighbors", "num_classes", "class_names", "cases"),
        *("network_def#in_channels", "preprocessing#transforms"),
        *(f"inferer#inferer{key}" for key in _INFERER),
    ),
    "multi_gpu_train": (),
    "multi_gpu_evaluate": (),
    "inference_trt": (),
}
# what else a bundle with another network may have of its own: that of SAM2-UNeXT is trained by its authors' recipe,
# and has one channel
ALSO_DIFFERENT = {
    "sam2_unext_segmentation": {
        "train": (
            *("task", "folders", "positional_encoding", "network_def", "dinov2_checkpoint"),
            *("dino_variant", "dino_size"),
            *("variant", "adapter", "epochs", "batch_size", "learning_rate", "cache_rate", "training#2"),
            *("prepare_adapter#build", "prepare_adapter#dinov2_checkpoint"),
            *("train#loss", "train#optimizer", "train#lr_scheduler#eta_min"),
            *("validate#postprocessing", "validate#handlers#2#class_names"),
        ),
        "evaluate": (
            *("rescale_predictions", "validate#postprocessing#transforms"),
            *(f"validate#handlers#0#{key}" for key in ("class_names", "background_name", "about")),
            "validate#handlers#1#class_names",
        ),
        "inference": (
            *("positional_encoding", "network_def", "dino_variant", "dino_size", "variant", "adapter", "batch_size"),
            "label_scheme",
        ),
    },
}
HEADINGS = (
    *("# Model Overview", "## Data", "## Training configuration", "## Performance", "## MONAI Bundle Commands"),
    *("# References", "# License"),
)


def config_of(bundle: Path, name: str) -> str:
    return str(bundle / "configs" / f"{name}.json")


def read(bundle: Path, name: str) -> dict[str, Any]:
    return json.loads(Path(config_of(bundle, name)).read_text(encoding="utf-8"))


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Keys, joined by "#" as in MONAI's configs, of what is not the same in two files."""
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        first, second = (dict(enumerate(values)) for values in (first, second))
    if not isinstance(first, dict) or not isinstance(second, dict):
        return [] if first == second else [place]
    found = []
    for key in first.keys() | second.keys():
        inside = f"{place}#{key}" if place else str(key)
        both = key in first and key in second
        found += differences(first[key], second[key], inside) if both else [inside]
    return found


# what changes no value of an image: checks that need a label or a whole scan, and the data type in the cache
NO_CHANGE = {"RequireSameGeometryd", "RequireHounsfieldd", "CastToTyped"}


def image_steps(config: dict[str, Any], reference: str) -> list[dict[str, Any]]:
    """The transforms of the image, references followed; readers left out, since inference takes more formats."""
    found: Any = config
    for part in reference.removeprefix("@").split("#"):
        found = found[part]
    if isinstance(found, str):
        return image_steps(config, found)
    steps = []
    for step in found["transforms"]:
        if isinstance(step, str):
            steps += image_steps(config, step)
        elif step["keys"] != "label" and step["_target_"].split(".")[-1] not in NO_CHANGE:
            steps.append({**step, "keys": "image", "reader": None})
    return steps


@pytest.fixture(scope="session")
def weights(bundle: Path, smallest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that fit the bundle's network with SMALL's adapter."""
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    torch.save(network_of(bundle, adapter="full", **smallest).state_dict(), path)
    return path


def network_of(bundle: Path, **options: Any) -> torch.nn.Module:
    config = ConfigParser(ConfigParser.load_config_file(config_of(bundle, "inference")))
    config.update(options)
    return config.get_parsed_content("network_def")


def is_inverse(step: Any) -> bool:
    return isinstance(step, dict) and step["_target_"].endswith("Invertd")


class TestChecksOfMonai:
    def test_metadata_follows_the_schema(self, bundle: Path) -> None:
        monai.bundle.verify_metadata(meta_file=config_of(bundle, "metadata"), filepath=SCHEMA)

    @pytest.mark.parametrize(
        ("names", "workflow_type"),
        [(["train"], "train"), (["train", "evaluate"], "train"), (["inference"], "infer")],
        ids=["training", "evaluation", "inference"],
    )
    def test_properties(
        self,
        names: list[str],
        workflow_type: str,
        bundle: Path,
        smallest: dict[str, Any],
        dataset_dir: Path,
        tmp_path: Path,
    ) -> None:
        workflow = ConfigWorkflow(
            config_file=[config_of(bundle, name) for name in names],
            meta_file=config_of(bundle, "metadata"),
            workflow_type=workflow_type,
            bundle_root=str(bundle),
            dataset_dir=str(dataset_dir),
            output_dir=str(tmp_path),
            **{**SMALL, **smallest},
        )
        workflow.initialize()
        assert workflow.check_properties() == []

    def test_network_takes_and_gives_what_the_metadata_says(self, bundle: Path, smallest: dict[str, Any]) -> None:
        files = {"meta_file": config_of(bundle, "metadata"), "config_file": config_of(bundle, "inference")}
        shape = {
            f"_meta_#network_data_format#{tensor}#spatial_shape": [64, 64]
            for tensor in ("inputs#image", "outputs#pred")
        }
        options = {**smallest, **shape} if smallest else {}
        monai.bundle.verify_net_in_out("network_def", **files, bundle_root=str(bundle), device="cpu", **options)

    def test_the_metadata_has_the_size_of_the_configs(self, bundle: Path) -> None:
        formats = read(bundle, "metadata")["network_data_format"]
        size = read(bundle, "inference")["image_size"]
        for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
            assert tensor["spatial_shape"] == [size, size]

    def test_exports_to_torchscript(
        self, bundle: Path, smallest: dict[str, Any], weights: Path, tmp_path: Path
    ) -> None:
        network = network_of(bundle, adapter="full", **smallest).eval()
        channels = network.config["in_channels"]
        monai.bundle.ckpt_export(
            "network_def",
            filepath=str(tmp_path / "model.ts"),
            ckpt_file=str(weights),
            meta_file=config_of(bundle, "metadata"),
            config_file=config_of(bundle, "inference"),
            use_trace=True,
            input_shape=[1, channels, 32, 32],
            converter_kwargs={"check_trace": False},  # done below, at another size
            adapter="full",
            **smallest,
        )
        network.load_state_dict(torch.load(weights, weights_only=True))
        image = torch.randn(2, channels, 40, 70)
        exported = torch.jit.load(tmp_path / "model.ts")
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image), rtol=1e-4, atol=1e-4)

    def test_tensorrt_can_be_asked_for_where_there_is_none(self, bundle: Path, smallest: dict[str, Any]) -> None:
        files = [config_of(bundle, name) for name in ("inference", TRT)]
        config = ConfigParser(ConfigParser.load_config_files(files))
        config.update({**SMALL, **smallest, "bundle_root": str(bundle)})
        network = config.get_parsed_content("network")
        assert network is config.get_parsed_content("network_def")

    def test_tensorrt_gets_the_network_and_its_sizes(
        self, bundle: Path, smallest: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[Any] = []
        monkeypatch.setattr(
            monai.networks, "trt_compile", lambda *args, **kwargs: given.append((args, kwargs)) or args[0]
        )
        config = ConfigParser(ConfigParser.load_config_files([config_of(bundle, "inference"), config_of(bundle, TRT)]))
        config.update({**SMALL, **smallest, "bundle_root": str(bundle), "checkpoint_file": "some/model.pt"})
        network = config.get_parsed_content("network")
        args = {"precision": "tf32", "dynamic_batchsize": [1, 4, 4], "fallback": True}
        assert given == [((network, "some/model.pt"), {"args": args})]
        assert isinstance(network, AdaptedSAM2)
        assert config.get_parsed_content("amp") is False

    def test_load_gives_the_trained_network(
        self, bundle: Path, smallest: dict[str, Any], weights: Path, tmp_path: Path
    ) -> None:
        packed = pack_bundle(bundle, weights, tmp_path, settings={"adapter": "full", **smallest})
        monai.bundle.download(name=bundle.name, url=packed.path.as_uri(), bundle_dir=tmp_path, progress=False)
        network = monai.bundle.load(bundle.name, bundle_dir=tmp_path, device="cpu")
        saved = torch.load(weights, weights_only=True)
        assert network.state_dict().keys() == saved.keys()
        assert all(torch.equal(tensor, saved[name]) for name, tensor in network.state_dict().items())


class TestFiles:
    def test_all_are_there_and_no_python(self, bundle: Path) -> None:
        written_by_runs = ("models", "eval", "prediction", "data")
        found = {path.relative_to(bundle) for path in bundle.rglob("*") if path.is_file()}
        names = {path.as_posix() for path in found if path.parts[0] not in written_by_runs}
        assert {name for name in names if not name.startswith("docs/")} == {
            name for name in FILES if not name.startswith("docs/")
        }
        assert names >= FILES
        assert not [name for name in names if name.endswith(".py")]

    def test_the_readme_has_the_headings_of_the_model_zoo(self, bundle: Path) -> None:
        lines = (bundle / "docs" / "README.md").read_text(encoding="utf-8").splitlines()
        found = [line for line in lines if line in HEADINGS]
        assert found == list(HEADINGS)

    def test_the_readme_names_keys_that_exist(self, bundle: Path) -> None:
        readme = (bundle / "docs" / "README.md").read_text(encoding="utf-8")
        section = re.split(r"^#.*$", readme.partition("#### Keys")[2].partition("\n")[2], flags=re.MULTILINE)[0]
        rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
        named = {key for row in rows for key in re.findall(r"`([^`]+)`", row)}
        assert named >= (TRAINING_KEYS | INFERENCE_KEYS) - WITHOUT.get(bundle.name, set())
        assert named <= {key for name in ("train", "evaluate", "inference") for key in read(bundle, name)}

    def test_the_metadata_lists_what_was_changed(self, bundle: Path) -> None:
        metadata = read(bundle, "metadata")
        assert metadata["version"] in metadata["changelog"]


class TestAlike:
    def test_keys_of_the_command_line(self, bundle: Path) -> None:
        without = WITHOUT.get(bundle.name, set())
        assert read(bundle, "train").keys() >= TRAINING_KEYS - without
        assert read(bundle, "inference").keys() >= INFERENCE_KEYS - without

    def test_validation_and_inference_prepare_images_alike(self, bundle: Path) -> None:
        train, inference = read(bundle, "train"), read(bundle, "inference")
        steps = [image_steps(train, "@validate#preprocessing"), image_steps(inference, "@preprocessing")]
        assert steps[0] == steps[1]
        assert len(steps[0]) > 2

    def test_training_and_inference_describe_one_network(self, bundle: Path) -> None:
        train, inference = read(bundle, "train"), read(bundle, "inference")
        choices = [{**config["adapter_choice"], "weights": None} for config in (train, inference)]
        assert choices[0] == choices[1]
        values = map(str, [*train["network_def"].values(), *choices[0].values()])
        options = {value.removeprefix("@") for value in values if value[0] == "@"}
        for key in ("image_size", "network_def", *options):
            assert train[key] == inference[key], key
        assert options >= {"variant", "adapter", "adapter_config", "macs_budget"}

    def test_the_adapter_is_chosen_for_the_network_of_the_bundle(self, bundle: Path) -> None:
        train = read(bundle, "train")
        chosen = {"adapter": "$@adapter_choice.adapter", "adapter_config": "$@adapter_choice.config"}
        build = train["prepare_adapter"]["build"]
        assert build.pop("_mode_") == "callable"
        assert {**build, **chosen} == train["network_def"]

    @pytest.mark.parametrize("name", DIFFERENT)
    def test_configs_are_those_of_the_first_bundle_but_for_the_data(self, name: str, bundle: Path) -> None:
        first = sorted(path for path in bundle.parent.iterdir() if (path / "configs").is_dir())[0]
        expected, found = read(first, name), read(bundle, name)
        if name == "inference":  # turned back where the preprocessing turns
            steps = found["postprocessing"]["transforms"]
            turned = "Orientationd" in str(found["preprocessing"])
            assert turned == any(is_inverse(step) for step in steps)
            found["postprocessing"]["transforms"] = [step for step in steps if not is_inverse(step)]
        may_differ = DIFFERENT[name] + ALSO_DIFFERENT.get(bundle.name, {}).get(name, ())
        unexpected = [
            key
            for key in differences(expected, found)
            if not any(f"{key}#".startswith(f"{allowed}#") for allowed in may_differ)
        ]
        assert not unexpected

    @pytest.mark.parametrize("file", ["LICENSE", "configs/logging.conf"])
    def test_files_are_those_of_the_first_bundle(self, file: str, bundle: Path) -> None:
        first = sorted(path for path in bundle.parent.iterdir() if (path / "configs").is_dir())[0]
        assert (bundle / file).read_bytes() == (first / file).read_bytes()

    def test_only_the_first_process_writes_for_tensorboard(self, bundle: Path) -> None:
        """multi_gpu_train.json switches handlers off by their number, which must be that of those with the writer."""
        overrides = {key for key in read(bundle, "multi_gpu_train") if key.endswith("handlers") or "_disabled_" in key}
        off = {key.removesuffix("#_disabled_") for key in overrides if key.endswith("#_disabled_")}
        train = read(bundle, "train")
        with_writer = {
            f"{part}#handlers#{number}"
            for part in ("train", "validate")
            for number, handler in enumerate(train[part]["handlers"])
            if handler.get("summary_writer") == "@summary_writer"
        }
        assert off == {"summary_writer", *with_writer}
        assert with_writer


@pytest.mark.parametrize("key", ["version", "required_packages_version", "network_data_format"])
def test_the_schema_refuses_metadata_that_lacks_what_monai_requires(key: str, tmp_path: Path) -> None:
    metadata = dict.fromkeys(json.loads(SCHEMA.read_text(encoding="utf-8"))["required"], "text")
    metadata |= {"required_packages_version": {}, "network_data_format": {"inputs": {}, "outputs": {}}}
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata), encoding="utf-8")
    monai.bundle.verify_metadata(meta_file=str(path), filepath=SCHEMA)
    del metadata[key]
    path.write_text(json.dumps({**metadata, "schema": "text"}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"'{key}' is a required property"):
        monai.bundle.verify_metadata(meta_file=str(path), filepath=SCHEMA)
