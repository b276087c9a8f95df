// libsedge._core.Preprocessor: one memory, one call at a time.
#ifndef LIBSEDGE_PREPROCESSOR_H
#define LIBSEDGE_PREPROCESSOR_H

#include "bindings.h"
#include "preprocess.h"

#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace sedge {

class PreprocessorBinding {
public:
    PreprocessorBinding(const pybind11::handle& wavelength, const pybind11::handle& mask,
                        const pybind11::handle& grid, std::vector<std::size_t> segment_points,
                        bool compress_sqrt, std::size_t smooth_window, std::size_t smooth_order,
                        std::size_t snip_half_window);

    // -> (float32 [n, points] or None, int8 [n, points] or None, report float64 [n, 5] or None)
    pybind11::tuple run(const pybind11::handle& counts, const pybind11::object& dark, double shift_nm,
                        bool want_float, const std::optional<std::pair<float, std::int32_t>>& quantisation,
                        const std::optional<float>& report_saturation);

    // Which pixels are used from now on; uint8 [channels], 1 = valid.
    void set_mask(const pybind11::handle& mask);

    // Grid points that a spectrum without non-finite pixels gives a value, with the axis moved by `shift_nm`.
    pybind11::array grid_mask(double shift_nm);

    // For a caller that holds the lock.
    Preprocessor& core() { return core_; }
    std::unique_lock<std::mutex> lock() { return std::unique_lock<std::mutex>(mutex_); }

private:
    Preprocessor core_;
    std::mutex mutex_;
};

} // namespace sedge

#endif
