// libsedge._core.Classifier and FloatClassifier: preprocessing, checks, network and probabilities in one
// call.
#include "model.h"
#include "preprocessor.h"
#include "quality.h"
#include "softmax.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace py = pybind11;

namespace sedge {
namespace {

constexpr std::size_t kFewClasses = 64;

using Steady = std::chrono::steady_clock;

double seconds(Steady::duration time) { return std::chrono::duration<double>(time).count(); }

// What comes before and after an int8 network.
struct Int8Ends {
    std::pair<float, std::int32_t> quantisation;
    std::vector<double> table; // [256]

    void input(const Preprocessor& core, std::int8_t* out) const {
        core.integers(quantisation.first, quantisation.second, out);
    }
    void probabilities(const std::vector<std::int8_t>& logits, double* out) const {
        softmax(logits.data(), logits.size(), table.data(), out);
    }
};

// What comes before and after a float32 one.
struct Float32Ends {
    double temperature;

    void input(const Preprocessor& core, float* out) const { core.reals(out); }
    void probabilities(const std::vector<float>& logits, double* out) const {
        softmax(logits.data(), logits.size(), temperature, out);
    }
};

// The data of a C-contiguous, aligned NumPy array [channels] of `Value` in this machine's byte order; null
// for anything else.
template <typename Value>
const Value* row_of(const py::handle& value, std::size_t channels) {
    if (!py::isinstance<py::array>(value)) {
        return nullptr;
    }
    const auto array = py::reinterpret_borrow<py::array>(value);
    const py::dtype dtype = array.dtype();
    constexpr int wanted = py::array::c_style | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
    const bool fits = dtype.num() == py::dtype::num_of<Value>() && dtype.byteorder() == '=' &&
                      array.ndim() == 1 && static_cast<std::size_t>(array.shape(0)) == channels &&
                      (array.flags() & wanted) == wanted;
    return fits ? static_cast<const Value*>(array.data()) : nullptr;
}

// pybind11's own looks up more than a decision can wait for.
class WithoutGil {
public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { PyEval_RestoreThread(state_); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

private:
    PyThreadState* state_;
};

PyObject* checked(PyObject* made) {
    if (made == nullptr) {
        throw py::error_already_set();
    }
    return made;
}

template <class Api, class Ends>
class Classifier {
    using Value = typename Api::Value;

public:
    Classifier(Model<Api>& model, PreprocessorBinding& preprocessor, py::function taken, py::type decision,
               py::tuple labels, Ends ends, const Limits& limits, double min_confidence)
        : model_(model), preprocessor_(preprocessor), taken_(std::move(taken)),
          decision_(std::move(decision)), labels_(std::move(labels)), ends_(std::move(ends)), limits_(limits),
          min_confidence_(min_confidence), input_(model.net().input_len), logits_(model.net().classes) {
        if (preprocessor.core().points() != input_.size() || labels_.size() != logits_.size()) {
            throw py::value_error("model, preprocessor and labels do not fit together");
        }
    }

    // -> Decision, a new reference.
    PyObject* decide(const py::handle& counts, const py::handle& dark, double shift_nm, float saturation,
                     const py::handle& distance_m) {
        const Spectrum spectrum = as_it_stands(counts, dark);
        if (spectrum.fits && std::isfinite(shift_nm)) {
            return decide(spectrum, shift_nm, saturation, distance_m);
        }
        const py::object made = taken_(counts, dark, shift_nm);
        if (made.is_none()) {
            return refused("wrong_length", distance_m);
        }
        const auto [values, darkness] = made.cast<std::pair<py::object, py::object>>();
        const Spectrum converted = as_it_stands(values, darkness);
        if (!converted.fits) {
            throw py::value_error("taken() gave what cannot be taken");
        }
        return decide(converted, shift_nm, saturation, distance_m);
    }

    std::pair<double, double> spent_s() const { return spent_s_; }

private:
    // Counts of one type, and the dark or null.
    struct Spectrum {
        const std::uint16_t* integers;
        const float* reals;
        const float* dark;
        bool fits; // what was given is a spectrum that can be taken as it stands
    };

    Spectrum as_it_stands(const py::handle& counts, const py::handle& dark) const {
        const std::size_t channels = preprocessor_.core().channels();
        const auto* const integers = row_of<std::uint16_t>(counts, channels);
        const auto* const reals = integers != nullptr ? nullptr : row_of<float>(counts, channels);
        const auto* const darkness = dark.is_none() ? nullptr : row_of<float>(dark, channels);
        const bool fits =
            (integers != nullptr || reals != nullptr) && (darkness != nullptr || dark.is_none());
        return {integers, reals, darkness, fits};
    }

    PyObject* decide(const Spectrum& spectrum, double shift_nm, float saturation,
                     const py::handle& distance_m) {
        const char* reason = nullptr;
        sedge_status status = SEDGE_OK;
        std::size_t index = 0;
        double few[kFewClasses]; // a cold malloc takes longer than all of them
        std::vector<double> many(logits_.size() > kFewClasses ? logits_.size() : 0);
        double* const probabilities = many.empty() ? few : many.data();
        {
            const WithoutGil released;
            const auto lock = preprocessor_.lock();
            Preprocessor& core = preprocessor_.core();
            const auto start = Steady::now();
            core.set_shift(shift_nm);
            if (spectrum.integers != nullptr) {
                core.take(spectrum.integers, spectrum.dark, saturation);
            } else {
                core.take(spectrum.reals, spectrum.dark, saturation);
            }
            reason = unusable(core.report(), limits_);
            if (reason == nullptr) {
                ends_.input(core, input_.data());
            }
            const auto prepared = Steady::now();
            spent_s_ = {seconds(prepared - start), 0.0};
            if (reason == nullptr) {
                status = model_.run_unheld(input_.data(), logits_.data());
                spent_s_.second = seconds(Steady::now() - prepared);
                const auto largest = std::max_element(logits_.begin(), logits_.end()); // the first of equals
                index = static_cast<std::size_t>(largest - logits_.begin());
                ends_.probabilities(logits_, probabilities);
            }
        }
        model_.check_ran(status);
        if (reason != nullptr) {
            return refused(reason, distance_m);
        }
        const auto each =
            py::reinterpret_steal<py::object>(checked(PyTuple_New(static_cast<Py_ssize_t>(logits_.size()))));
        for (std::size_t i = 0; i < logits_.size(); ++i) {
            PyTuple_SET_ITEM(each.ptr(), static_cast<Py_ssize_t>(i),
                             checked(PyFloat_FromDouble(probabilities[i])));
        }
        const auto best = static_cast<Py_ssize_t>(index);
        const bool sure = probabilities[index] >= min_confidence_;
        return decision(PyTuple_GET_ITEM(labels_.ptr(), best), py::int_(index),
                        PyTuple_GET_ITEM(each.ptr(), best), each, py::bool_(sure),
                        sure ? py::handle(Py_None) : py::handle(low_confidence_), distance_m);
    }

    // Without the network.
    PyObject* refused(const char* reason, const py::handle& distance_m) const {
        const py::none none;
        return decision(none, none, none, none, py::bool_(false), py::str(reason), distance_m);
    }

    // `Decision(...)`, made as `tuple.__new__` makes it.
    template <typename... Fields>
    PyObject* decision(const Fields&... fields) const {
        auto* const type = reinterpret_cast<PyTypeObject*>(decision_.ptr());
        PyObject* const made = checked(type->tp_alloc(type, sizeof...(fields)));
        Py_ssize_t at = 0;
        (PyTuple_SET_ITEM(made, at++, py::handle(fields).inc_ref().ptr()), ...);
        return made;
    }

    Model<Api>& model_;
    PreprocessorBinding& preprocessor_;
    py::function taken_; // makes what does not fit into what does; None: it is of another length
    py::type decision_;  // a named tuple
    py::tuple labels_;
    py::str low_confidence_{"low_confidence"};
    Ends ends_;
    Limits limits_;
    double min_confidence_;
    std::vector<Value> input_; // under the preprocessor's lock, as what follows
    std::vector<Value> logits_;
    std::pair<double, double> spent_s_{};
};

// decide(counts, dark, shift_nm, saturation, distance_m). Once a frame everything is cold, and pybind11's way
// into a method then takes as long as a small network: this is a plain function of the C API, which the
// caller keeps.
template <class Type>
PyObject* call_decide(PyObject* self, PyObject* const* arguments, Py_ssize_t count) noexcept {
    if (count != 5) {
        PyErr_Format(PyExc_TypeError, "decide() takes 5 arguments, not %zd", count);
        return nullptr;
    }
    const double shift_nm = PyFloat_AsDouble(arguments[2]);
    const double saturation =
        arguments[3] == Py_None ? std::numeric_limits<double>::quiet_NaN() : PyFloat_AsDouble(arguments[3]);
    if (PyErr_Occurred() != nullptr) {
        return nullptr;
    }
    try {
        return static_cast<Type*>(PyCapsule_GetPointer(self, nullptr))
            ->decide(arguments[0], arguments[1], shift_nm, static_cast<float>(saturation), arguments[4]);
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const std::exception& error) {
        PyErr_SetString(PyExc_RuntimeError, error.what());
    }
    return nullptr;
}

template <class Type>
void bind_decide(py::class_<Type> type) {
    const auto decide = [](Type& self) {
        static PyMethodDef method = {
            "decide", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(call_decide<Type>)),
            METH_FASTCALL, nullptr};
        const py::capsule where(&self);
        return py::reinterpret_steal<py::object>(checked(PyCFunction_New(&method, where.ptr())));
    };
    type.def_property_readonly("decide", py::cpp_function(decide, py::keep_alive<0, 1>()))
        .def_property_readonly("spent_s", &Type::spent_s);
}

} // namespace

void bind_classifier(py::module_& module) {
    using Int8Classifier = Classifier<Int8, Int8Ends>;
    using Float32Classifier = Classifier<Float32, Float32Ends>;
    const auto keep_model = py::keep_alive<1, 2>();
    const auto keep_preprocessor = py::keep_alive<1, 3>();
    bind_decide(
        py::class_<Int8Classifier>(module, "Classifier")
            .def(py::init([](Model<Int8>& model, PreprocessorBinding& preprocessor, py::function taken,
                             py::type decision, py::tuple labels, std::pair<float, std::int32_t> quantisation,
                             const py::handle& table, double min_contrast, double max_saturated,
                             double min_confidence) {
                     const auto values = require_array(table, "table", py::dtype::of<double>(), {256});
                     const auto* data = static_cast<const double*>(values.data());
                     return std::make_unique<Int8Classifier>(
                         model, preprocessor, std::move(taken), std::move(decision), std::move(labels),
                         Int8Ends{quantisation, std::vector<double>(data, data + values.size())},
                         Limits{min_contrast, max_saturated}, min_confidence);
                 }),
                 keep_model, keep_preprocessor, py::arg("model"), py::arg("preprocessor"), py::arg("taken"),
                 py::arg("decision"), py::arg("labels"), py::arg("quantisation"), py::arg("table"),
                 py::kw_only(), py::arg("min_contrast"), py::arg("max_saturated"),
                 py::arg("min_confidence")));
    bind_decide(
        py::class_<Float32Classifier>(module, "FloatClassifier")
            .def(py::init([](Model<Float32>& model, PreprocessorBinding& preprocessor, py::function taken,
                             py::type decision, py::tuple labels, double temperature, double min_contrast,
                             double max_saturated, double min_confidence) {
                     return std::make_unique<Float32Classifier>(
                         model, preprocessor, std::move(taken), std::move(decision), std::move(labels),
                         Float32Ends{temperature}, Limits{min_contrast, max_saturated}, min_confidence);
                 }),
                 keep_model, keep_preprocessor, py::arg("model"), py::arg("preprocessor"), py::arg("taken"),
                 py::arg("decision"), py::arg("labels"), py::arg("temperature"), py::kw_only(),
                 py::arg("min_contrast"), py::arg("max_saturated"), py::arg("min_confidence")));
}

} // namespace sedge
