// libsedge._core.Model and FloatModel.
#include "model.h"

namespace py = pybind11;

namespace sedge {
namespace {

template <class Api>
py::class_<Model<Api>> bind(py::module_& module, const char* name) {
    using M = Model<Api>;
    py::class_<M> type(module, name);
    type.def(py::init([](const py::bytes& so, const std::optional<std::string>& isa) {
                 return std::make_unique<M>(std::string_view(so), isa);
             }),
             py::arg("so"), py::arg("isa") = py::none())
        .def("run", &M::run, py::arg("input"))
        .def("run_batch", &M::run_batch, py::arg("inputs"), py::arg("out") = py::none())
        .def("layer_times", &M::layer_times, py::arg("input"))
        .def("self_test", &M::self_test)
        .def("scrub", &M::scrub)
        .def("check_canaries", &M::check_canaries)
        .def_property_readonly("isas", &M::isas)
        .def_property_readonly("isa", &M::isa)
        .def_property_readonly("name", [](const M& m) { return m.net().name; })
        .def_property_readonly("digest", [](const M& m) { return m.net().digest; })
        .def_property_readonly("input_len", [](const M& m) { return m.net().input_len; })
        .def_property_readonly("classes", [](const M& m) { return m.net().classes; })
        .def_property_readonly("arena_bytes", [](const M& m) { return m.net().arena_bytes; })
        .def_property_readonly("arena_align", [](const M& m) { return m.net().arena_align; });
    return type;
}

} // namespace

void bind_model(py::module_& module) {
    bind<Int8>(module, "Model").def("trace", &Model<Int8>::trace, py::arg("input"));
    bind<Float32>(module, "FloatModel");
}

} // namespace sedge
