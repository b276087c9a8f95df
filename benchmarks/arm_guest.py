"""Runs one runtime on one model inside the emulated aarch64 Python of arm_system.py; knows nothing of this project.

    python arm_guest.py RUNTIME MODEL INPUT.npy TIMES     prints the runtime's version and the outputs as JSON

Two runs warm up; arm_peers.py counts what lies between the two calls of umask around the next TIMES.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], object]


def onnxruntime(model: str, x: np.ndarray) -> tuple[str, Call, Callable[[], Any]]:
    import onnxruntime as ort  # type: ignore[import-untyped]

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name, output = session.get_inputs()[0].name, session.get_outputs()[0]
    kind = {"tensor(uint8)": np.uint8, "tensor(int8)": np.int8, "tensor(float)": np.float32}[output.type]
    target = ort.OrtValue.ortvalue_from_numpy(np.zeros(output.shape, kind))
    binding = session.io_binding()
    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(x))
    binding.bind_ortvalue_output(output.name, target)
    return ort.__version__, lambda: session.run_with_iobinding(binding), target.numpy


def litert(model: str, x: np.ndarray) -> tuple[str, Call, Callable[[], Any]]:
    import ai_edge_litert  # type: ignore[import-not-found]
    from ai_edge_litert.interpreter import Interpreter  # type: ignore[import-not-found]

    runtime = Interpreter(model_path=model, num_threads=1)
    runtime.allocate_tensors()
    runtime.set_tensor(runtime.get_input_details()[0]["index"], x)
    target = runtime.get_output_details()[0]["index"]
    version = getattr(ai_edge_litert, "__version__", "")
    return version, runtime.invoke, lambda: runtime.get_tensor(target)


def ncnn(model: str, x: np.ndarray) -> tuple[str, Call, Callable[[], Any]]:
    import ncnn as library  # type: ignore[import-not-found]

    net = library.Net()
    net.opt.num_threads = 1
    if net.load_param(model) or net.load_model(model.replace(".param", ".bin")):
        raise SystemExit("ncnn does not load the model")
    source, found = library.Mat(x), []

    def call() -> None:
        with net.create_extractor() as extractor:
            extractor.input("input", source)
            found[:] = [extractor.extract("logits")[1]]

    return library.__version__, call, lambda: np.array(found[0])


def main() -> None:
    runtime, model, path, times = sys.argv[1:5]
    version, call, answer = globals()[runtime](model, np.load(path))
    call()
    call()
    os.umask(0o22)
    for _ in range(int(times)):
        call()
    os.umask(0o22)
    print(json.dumps({"version": version, "logits": np.asarray(answer(), np.float64).reshape(-1).tolist()}))


if __name__ == "__main__":
    main()
