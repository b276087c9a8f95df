"""int8 ONNX to C++: import, passes, reference, emission, verification, bundles."""
