// libsedge._core.Preprocessor and quantise; the checked, documented face is edge/libsedge/preprocess.py.
#include "combine.h"
#include "line_offsets.h"
#include "pixel_loops.h"
#include "preprocessor.h"

#include <limits>

namespace py = pybind11;

namespace sedge {
namespace {

template <typename T>
std::vector<T> to_vector(const py::array& array) {
    const auto* data = static_cast<const T*>(array.data());
    return std::vector<T>(data, data + array.size());
}

PreprocessSpec make_spec(const py::handle& wavelength, const py::handle& mask, const py::handle& grid,
                         std::vector<std::size_t> segment_points, bool compress_sqrt,
                         std::size_t smooth_window, std::size_t smooth_order, std::size_t snip_half_window) {
    const auto float64 = py::dtype::of<double>();
    const auto axis = require_array(wavelength, "wavelength", float64, {-1});
    const auto valid = require_array(mask, "mask", py::dtype::of<std::uint8_t>(), {axis.size()});
    const auto points = require_array(grid, "grid", float64, {-1});
    std::size_t sum = 0;
    for (const std::size_t size : segment_points) {
        sum += size;
    }
    if (axis.size() < 2 || points.size() < 1 || sum != static_cast<std::size_t>(points.size())) {
        throw py::value_error("at least 2 pixels, 1 grid point, and segments that add up to the grid");
    }
    if (smooth_window > 0 && (smooth_window % 2 == 0 || smooth_window > kLargestSmoothWindow ||
                              smooth_order > kLargestSmoothOrder || smooth_order >= smooth_window)) {
        throw py::value_error("an odd window of at most 101 pixels above its order of at most 5");
    }
    if (snip_half_window > kLargestSnipWindow) {
        throw py::value_error("a half window of at most 1000 pixels");
    }
    return {to_vector<double>(axis),
            to_vector<std::uint8_t>(valid),
            to_vector<double>(points),
            std::move(segment_points),
            compress_sqrt,
            smooth_window,
            smooth_order,
            snip_half_window};
}

} // namespace

PreprocessorBinding::PreprocessorBinding(const py::handle& wavelength, const py::handle& mask,
                                         const py::handle& grid, std::vector<std::size_t> segment_points,
                                         bool compress_sqrt, std::size_t smooth_window,
                                         std::size_t smooth_order, std::size_t snip_half_window)
    : core_(make_spec(wavelength, mask, grid, std::move(segment_points), compress_sqrt, smooth_window,
                      smooth_order, snip_half_window)) {}

py::tuple PreprocessorBinding::run(const py::handle& counts, const py::object& dark, double shift_nm,
                                   bool want_float,
                                   const std::optional<std::pair<float, std::int32_t>>& quantisation,
                                   const std::optional<float>& report_saturation) {
    const auto float32 = py::dtype::of<float>();
    const auto channels = static_cast<py::ssize_t>(core_.channels());
    const auto points = static_cast<py::ssize_t>(core_.points());
    const auto uint16 = py::dtype::of<std::uint16_t>();
    const bool integers = py::isinstance<py::array_t<std::uint16_t>>(counts);
    const auto in = require_array(counts, "counts", integers ? uint16 : float32, {-1, channels});
    const auto dark_array = dark.is_none() ? py::array() : require_array(dark, "dark", float32, {channels});
    const py::ssize_t rows = in.shape(0);

    py::object floats = py::none();
    py::object int8s = py::none();
    py::object reports = py::none();
    float* out_float = nullptr;
    std::int8_t* out_int8 = nullptr;
    double* out_report = nullptr;
    if (want_float) {
        py::array_t<float> array({rows, points});
        out_float = array.mutable_data();
        floats = std::move(array);
    }
    if (quantisation) {
        py::array_t<std::int8_t> array({rows, points});
        out_int8 = array.mutable_data();
        int8s = std::move(array);
    }
    if (report_saturation) {
        py::array_t<double> array({rows, py::ssize_t{5}});
        out_report = array.mutable_data();
        reports = std::move(array);
    }
    const auto* dark_data = dark.is_none() ? nullptr : static_cast<const float*>(dark_array.data());
    {
        const py::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_); // one memory
        core_.set_shift(shift_nm);
        const float saturation = report_saturation.value_or(std::numeric_limits<float>::quiet_NaN());
        for (py::ssize_t row = 0; row < rows; ++row) {
            if (integers) {
                core_.take(static_cast<const std::uint16_t*>(in.data()) + row * channels, dark_data,
                           saturation);
            } else {
                core_.take(static_cast<const float*>(in.data()) + row * channels, dark_data, saturation);
            }
            if (out_float != nullptr) {
                core_.reals(out_float + row * points);
            }
            if (out_int8 != nullptr) {
                core_.integers(quantisation->first, quantisation->second, out_int8 + row * points);
            }
            if (out_report != nullptr) {
                const PreprocessReport report = core_.report();
                double* to = out_report + row * 5;
                to[0] = static_cast<double>(report.non_finite);
                to[1] = static_cast<double>(report.saturated);
                to[2] = report.valid_fraction;
                to[3] = report.signal;
                to[4] = report.contrast;
            }
        }
    }
    return py::make_tuple(floats, int8s, reports);
}

void PreprocessorBinding::set_mask(const py::handle& mask) {
    const auto valid = require_array(mask, "mask", py::dtype::of<std::uint8_t>(),
                                     {static_cast<py::ssize_t>(core_.channels())});
    const std::lock_guard<std::mutex> lock(mutex_);
    core_.set_mask(static_cast<const std::uint8_t*>(valid.data()));
}

py::array PreprocessorBinding::grid_mask(double shift_nm) {
    const std::vector<float> zeros(core_.channels());
    const std::lock_guard<std::mutex> lock(mutex_);
    core_.set_shift(shift_nm);
    core_.take(zeros.data(), nullptr, std::numeric_limits<float>::quiet_NaN());
    py::array_t<bool> mask(static_cast<py::ssize_t>(core_.points()));
    std::copy_n(core_.grid_valid(), core_.points(), mask.mutable_data());
    return std::move(mask);
}

namespace {

// -> (float32 [channels], number of values left out)
py::tuple combine_binding(const py::handle& values) {
    const auto in = require_array(values, "values", py::dtype::of<float>(), {-1, -1});
    const auto shots = static_cast<std::size_t>(in.shape(0));
    const auto channels = static_cast<std::size_t>(in.shape(1));
    if (shots < 1) {
        throw py::value_error("at least one shot");
    }
    py::array_t<float> out(in.shape(1));
    float* target = out.mutable_data();
    std::vector<const float*> rows(shots);
    for (std::size_t shot = 0; shot < shots; ++shot) {
        rows[shot] = static_cast<const float*>(in.data()) + shot * channels;
    }
    std::vector<float> scratch(2 * shots);
    std::size_t left_out = 0;
    {
        const py::gil_scoped_release release;
        left_out = combine_shots(rows.data(), shots, channels, scratch.data(), target);
    }
    return py::make_tuple(out, left_out);
}

py::array line_offsets_binding(const py::handle& values, const py::handle& wavelength,
                               const py::handle& lines, double half_window_nm, float rise) {
    const auto axis = require_array(wavelength, "wavelength", py::dtype::of<double>(), {-1});
    const auto in = require_array(values, "values", py::dtype::of<float>(), {axis.size()});
    const auto wanted = require_array(lines, "lines", py::dtype::of<double>(), {-1});
    if (axis.size() < 1) {
        throw py::value_error("at least one pixel");
    }
    py::array_t<double> out(wanted.size());
    std::vector<float> scratch(static_cast<std::size_t>(axis.size()));
    line_offsets(static_cast<const float*>(in.data()), static_cast<const double*>(axis.data()),
                 static_cast<std::size_t>(axis.size()), static_cast<const double*>(wanted.data()),
                 static_cast<std::size_t>(wanted.size()), half_window_nm, rise, scratch.data(),
                 out.mutable_data());
    return std::move(out);
}

py::array quantise_binding(const py::handle& values, float scale, std::int32_t zero_point) {
    const auto in = require_array(values, "values", py::dtype::of<float>(), {-1});
    py::array_t<std::int8_t> out(in.size());
    quantise(static_cast<const float*>(in.data()), static_cast<std::size_t>(in.size()), scale, zero_point,
             out.mutable_data());
    return std::move(out);
}

} // namespace

void bind_preprocess(py::module_& module) {
    py::class_<PreprocessorBinding>(module, "Preprocessor")
        .def(py::init<const py::handle&, const py::handle&, const py::handle&, std::vector<std::size_t>, bool,
                      std::size_t, std::size_t, std::size_t>(),
             py::arg("wavelength"), py::arg("mask"), py::arg("grid"), py::arg("segment_points"),
             py::arg("compress_sqrt"), py::arg("smooth_window"), py::arg("smooth_order"),
             py::arg("snip_half_window"))
        .def("run", &PreprocessorBinding::run, py::arg("counts"), py::arg("dark"), py::arg("shift_nm"),
             py::arg("want_float"), py::arg("quantisation"), py::arg("report_saturation"))
        .def("set_mask", &PreprocessorBinding::set_mask, py::arg("mask"))
        .def("grid_mask", &PreprocessorBinding::grid_mask, py::arg("shift_nm"));
    module.def("pixel_loops", [] {
        py::list names;
        for (const char* const* name = pixel_loop_names(); *name != nullptr; ++name) {
            names.append(*name);
        }
        return names;
    });
    module.def(
        "use_pixel_loops",
        [](const std::string& name) {
            const char* before = use_pixel_loops(name.c_str());
            if (before == nullptr) {
                throw py::value_error("not runnable here: " + name);
            }
            return before;
        },
        py::arg("name"));
    module.def("combine_shots", &combine_binding, py::arg("values"));
    module.def("line_offsets", &line_offsets_binding, py::arg("values"), py::arg("wavelength"),
               py::arg("lines"), py::arg("half_window_nm"), py::arg("rise"));
    module.def("quantise", &quantise_binding, py::arg("values"), py::arg("scale"), py::arg("zero_point"));
}

} // namespace sedge
