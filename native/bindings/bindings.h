// What the files of the Python shell share.
#ifndef LIBSEDGE_BINDINGS_H
#define LIBSEDGE_BINDINGS_H

#include <initializer_list>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <string>

namespace sedge {

void bind_classifier(pybind11::module_& module);
void bind_model(pybind11::module_& module);
void bind_preprocess(pybind11::module_& module);

// Throws the class `name` of libsedge.errors.
[[noreturn]] void throw_typed(const char* name, const std::string& why);

// `value` as a C-contiguous array of exactly this dtype (nothing is converted, so nothing is copied). -1 in
// `shape` takes any length. Raises TypeError for another type or dtype, ValueError for another shape or
// layout.
pybind11::array require_array(const pybind11::handle& value, const char* name, const pybind11::dtype& dtype,
                              std::initializer_list<pybind11::ssize_t> shape);

} // namespace sedge

#endif
