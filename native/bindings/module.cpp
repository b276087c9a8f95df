// libsedge._core: a thin shell over the C API of compiled models and over the C++ core.
#include "bindings.h"
#include "crc32c.h"
#include "softmax.h"

#include <cstring>
#include <vector>

namespace py = pybind11;

namespace sedge {

void throw_typed(const char* name, const std::string& why) {
    const py::object type = py::module_::import("libsedge.errors").attr(name);
    PyErr_SetObject(type.ptr(), py::str(why).ptr());
    throw py::error_already_set();
}

py::array require_array(const py::handle& value, const char* name, const py::dtype& dtype,
                        std::initializer_list<py::ssize_t> shape) {
    if (!py::isinstance<py::array>(value)) {
        throw py::type_error(std::string(name) + ": a NumPy array is needed, not " +
                             py::cast<std::string>(py::str(py::type::of(value).attr("__name__"))));
    }
    auto array = py::reinterpret_borrow<py::array>(value);
    if (!array.dtype().equal(dtype)) {
        throw py::type_error(std::string(name) + ": dtype " + py::cast<std::string>(py::str(dtype)) +
                             " is needed, not " + py::cast<std::string>(py::str(array.dtype())));
    }
    bool fits = array.ndim() == static_cast<py::ssize_t>(shape.size());
    std::string wanted = "(";
    py::ssize_t axis = 0;
    for (const py::ssize_t length : shape) {
        fits = fits && (length < 0 || array.shape(axis) == length);
        wanted += (axis++ > 0 ? ", " : "") + (length < 0 ? std::string("n") : std::to_string(length));
    }
    if (!fits) {
        throw py::value_error(std::string(name) + ": shape " + wanted + (shape.size() == 1 ? ",)" : ")") +
                              " is needed, not " + py::cast<std::string>(py::str(array.attr("shape"))));
    }
    if ((array.flags() & py::array::c_style) == 0) {
        throw py::value_error(std::string(name) +
                              ": must be C-contiguous; numpy.ascontiguousarray makes it so");
    }
    if ((array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) == 0) {
        throw py::value_error(std::string(name) + ": must be aligned to its items' size; a copy of it is");
    }
    return array;
}

namespace {

const Crc32cImplementation& find_implementation(const std::string& name) {
    std::size_t count = 0;
    const Crc32cImplementation* all = crc32c_implementations(&count);
    for (std::size_t i = 0; i < count; ++i) {
        if (name == all[i].name && all[i].runnable()) {
            return all[i];
        }
    }
    throw py::value_error("implementation = '" + name + "': see crc32c_implementations()");
}

std::uint32_t crc32c_binding(const py::buffer& data, std::uint32_t crc,
                             const std::optional<std::string>& name) {
    Py_buffer view;
    if (PyObject_GetBuffer(data.ptr(), &view, PyBUF_SIMPLE) != 0) { // refuses what is not contiguous
        throw py::error_already_set();
    }
    const auto* bytes = static_cast<const std::uint8_t*>(view.buf);
    const auto size = static_cast<std::size_t>(view.len);
    try {
        crc = name ? find_implementation(*name).update(crc, bytes, size) : crc32c(bytes, size, crc);
    } catch (...) {
        PyBuffer_Release(&view);
        throw;
    }
    PyBuffer_Release(&view);
    return crc;
}

std::vector<std::string> runnable_implementations() {
    std::size_t count = 0;
    const Crc32cImplementation* all = crc32c_implementations(&count);
    std::vector<std::string> names;
    for (std::size_t i = 0; i < count; ++i) {
        if (all[i].runnable()) {
            names.emplace_back(all[i].name);
        }
    }
    return names;
}

// Row by row; `with` is what `softmax` takes behind the number of classes.
template <typename Logit, typename With>
py::array softmax_rows(const py::handle& logits, With with) {
    const auto in = require_array(logits, "logits", py::dtype::of<Logit>(), {-1, -1});
    const py::ssize_t classes = in.shape(1);
    if (classes < 1) {
        throw py::value_error("at least one class");
    }
    py::array_t<double> out({in.shape(0), classes});
    const auto* from = static_cast<const Logit*>(in.data());
    double* to = out.mutable_data();
    for (py::ssize_t row = 0; row < in.shape(0); ++row) {
        softmax(from + row * classes, static_cast<std::size_t>(classes), with, to + row * classes);
    }
    return std::move(out);
}

py::array softmax_binding(const py::handle& logits, const py::handle& table) {
    const auto exponentials = require_array(table, "table", py::dtype::of<double>(), {256});
    return softmax_rows<std::int8_t>(logits, static_cast<const double*>(exponentials.data()));
}

py::array real_softmax_binding(const py::handle& logits, double temperature) {
    return softmax_rows<float>(logits, temperature);
}

} // namespace
} // namespace sedge

PYBIND11_MODULE(_core, module) {
    module.doc() = "Compiled models, preprocessing and CRC-32C; see _core.pyi for the contract.";
    module.def("crc32c", &sedge::crc32c_binding, py::arg("data"), py::arg("crc") = 0,
               py::arg("implementation") = py::none());
    module.def("crc32c_implementations", &sedge::runnable_implementations);
    module.def("softmax", &sedge::softmax_binding, py::arg("logits"), py::arg("table"));
    module.def("real_softmax", &sedge::real_softmax_binding, py::arg("logits"), py::arg("temperature"));
    sedge::bind_model(module);
    sedge::bind_preprocess(module);
    sedge::bind_classifier(module);
}
