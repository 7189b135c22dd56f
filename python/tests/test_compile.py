# Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
# See LICENSE for license information.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""moe_mlir.compile: sources, targets and what it reports."""

import ast
import pathlib

import moe_mlir
import pytest
from moe_mlir import _moe
from small_layer import SmallLayer

SOURCE = SmallLayer().source()


def test_describes_the_layer():
    layer = moe_mlir.compile(SmallLayer(max_tokens=100).source(), threads=2)
    assert layer.name == "layer"
    assert layer.target == "cpu"
    assert layer.threads == 2
    assert layer.bounds == {"T": 100}
    assert [a.name for a in layer.inputs] == [
        "x", "router_weight", "gate_up", "down",
    ]  # fmt: skip
    assert layer.inputs[0] == moe_mlir.Argument("x", "float32", ("T", 16))
    assert "orientation = out_in" in layer.inputs[2].layout
    assert layer.outputs == (moe_mlir.Argument("y", "float32", ("T", 16)),)
    assert repr(layer).startswith(
        "<moe_mlir.Layer layer(x: float32[T, 16], router_weight: "
        "float32[4, 16], gate_up: float32[4, 48, 16], "
    )
    assert repr(layer).endswith(
        "-> (y: float32[T, 16]), target=cpu, threads=2>"
    )


def test_layouts_are_checked():
    expected = moe_mlir.compile(SOURCE).inputs[2].layout
    moe_mlir.compile(SOURCE, layouts={"gate_up": expected.replace(" ", "")})
    wrong = expected.replace("out_in", "in_out")
    assert wrong != expected
    with pytest.raises(ValueError, match="layouts: 'gate_up' .*in_out"):
        moe_mlir.compile(SOURCE, layouts={"gate_up": wrong})
    with pytest.raises(ValueError, match="'x' has no layout; gate_up, down"):
        moe_mlir.compile(SOURCE, layouts={"x": expected})


def test_reads_files_and_bytes(tmp_path):
    path = tmp_path / "layer.mlir"
    path.write_text(SOURCE)
    for source in (path, str(path), SOURCE.encode()):
        assert moe_mlir.compile(source).name == "layer"


def test_names_the_file_in_messages(tmp_path):
    path = tmp_path / "broken.mlir"
    path.write_text("module { moe.nothing }")
    message = r"broken\.mlir:1:10: error"
    with pytest.raises(moe_mlir.CompileError, match=message):
        moe_mlir.compile(path)


def test_missing_file():
    with pytest.raises(FileNotFoundError, match="no-such-file.mlir"):
        moe_mlir.compile("no-such-file.mlir")


@pytest.mark.parametrize(
    "source, message",
    [
        ("module { foo }", r"source:1:10: error: custom op 'foo' is unknown"),
        ("module {", r"source:1:\d+: error: "),
        ("module {}", "no function is marked moe.entry"),
        (b"", "no function is marked moe.entry"),
        (b"ML\xefR\x00\x01", "error: "),
        (
            SOURCE.replace("moe.top_k<k = 2", "moe.top_k<k = 5"),
            r"source:\d+:\d+: error: .*",
        ),
    ],
)
def test_invalid_source(source, message):
    with pytest.raises(moe_mlir.CompileError, match=message):
        moe_mlir.compile(source)


def test_compile_error_is_a_value_error():
    assert issubclass(moe_mlir.CompileError, ValueError)
    assert moe_mlir.CompileError.__module__ == "moe_mlir"


def test_chooses_an_entry():
    two = "module {" + "".join(
        SmallLayer(name=name, hidden=hidden).function()
        for name, hidden in (("small", 16), ("large", 32))
    ) + "}"  # fmt: skip
    layer = moe_mlir.compile(two, entry="large")
    assert layer.inputs[0].shape == ("T", 32)
    with pytest.raises(ValueError, match="one of the entries: small, large"):
        moe_mlir.compile(two)
    with pytest.raises(ValueError, match="no entry 'huge'; it has small, la"):
        moe_mlir.compile(two, entry="huge")


@pytest.mark.parametrize(
    "arguments, kind, message",
    [
        ({"target": "tpu"}, ValueError, "no target 'tpu'; expected 'cpu'"),
        ({"threads": 0}, ValueError, "threads is 0, expected 1 or more"),
        ({"threads": 2**30}, ValueError, "threads: 1073741824"),
        ({"source": ""}, ValueError, "source is empty"),
        ({"source": 3}, TypeError, "source is int, expected IR"),
    ],
)
def test_invalid_arguments(arguments, kind, message):
    with pytest.raises(kind, match=message):
        moe_mlir.compile(**{"source": SOURCE, **arguments})


def test_version_is_the_package_s():
    project = pathlib.Path(__file__).parents[1] / "pyproject.toml"
    assert f'\nversion = "{moe_mlir.__version__}"\n' in project.read_text()


def test_stubs_name_what_the_extension_has():
    stub = pathlib.Path(moe_mlir.__file__).with_name("_moe.pyi")
    assert stub.with_name("py.typed").exists()
    tree = ast.parse(stub.read_text())
    kinds = (ast.ClassDef, ast.FunctionDef)

    def names(body):
        return {
            node.name
            for node in body
            if isinstance(node, kinds) and not node.name.startswith("__")
        }

    def public(thing):
        return {name for name in vars(thing) if not name.startswith("_")}

    assert names(tree.body) == public(_moe)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            assert names(node.body) == public(getattr(_moe, node.name))
