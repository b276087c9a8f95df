// One compiled model, loaded from bytes, run in an arena of its own: libsedge._core.Model and FloatModel.
#ifndef LIBSEDGE_MODEL_H
#define LIBSEDGE_MODEL_H

#include "arena.h"
#include "bindings.h"
#include "libsedge/exports.h"
#include "shared_object.h"

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>

namespace sedge {

inline const char* error_class(sedge_status status) {
    switch (status) {
    case SEDGE_E_ISA_UNKNOWN:
        return "UnknownIsaError";
    case SEDGE_E_ISA_NOT_BUILT:
        return "IsaNotBuiltError";
    case SEDGE_E_ISA_NOT_RUNNABLE:
        return "IsaNotRunnableError";
    case SEDGE_E_SELF_TEST:
    case SEDGE_E_WEIGHTS:
        return "SelfTestError";
    default:
        return "KernelError";
    }
}

struct TracedLayer {
    std::string name;
    std::vector<std::int8_t> data;
    std::size_t channels;
    std::size_t length;
};

struct TraceSink {
    std::vector<TracedLayer> layers;
    bool failed = false;
};

// Called from the model's code: no exception may leave it.
inline void collect_layer(void* user, const char* name, const int8_t* data, size_t channels, size_t length) {
    auto* sink = static_cast<TraceSink*>(user);
    try {
        sink->layers.push_back(
            {name, std::vector<std::int8_t>(data, data + channels * length), channels, length});
    } catch (...) {
        sink->failed = true;
    }
}

// Nanoseconds of every step of one run, less what reading the clock costs.
class StepClock {
public:
    using Times = std::vector<std::pair<std::string, std::int64_t>>;

    StepClock() {
        for (int i = 0; i < 100; ++i) {
            const auto first = Steady::now();
            reading_ = std::min(reading_, Steady::now() - first);
        }
        last_ = Steady::now();
    }

    // Called from the model's code: no exception may leave it. The next step's time begins when this is done.
    static void step(void* user, const char* name) {
        const auto now = Steady::now();
        auto* clock = static_cast<StepClock*>(user);
        try {
            clock->of(name) += std::max(now - clock->last_ - clock->reading_, Steady::duration::zero());
        } catch (...) {
            clock->failed_ = true;
        }
        clock->last_ = Steady::now();
    }

    Times times() const {
        if (failed_) {
            throw std::bad_alloc();
        }
        Times all;
        for (const auto& [name, time] : steps_) {
            all.emplace_back(name, std::chrono::duration_cast<std::chrono::nanoseconds>(time).count());
        }
        return all;
    }

private:
    using Steady = std::chrono::steady_clock;

    // A streamed step is called in every round.
    Steady::duration& of(const char* name) {
        for (auto& [known, time] : steps_) {
            if (known == name) {
                return time;
            }
        }
        return steps_.emplace_back(name, Steady::duration::zero()).second;
    }

    std::vector<std::pair<const char*, Steady::duration>> steps_;
    Steady::duration reading_ = Steady::duration::max();
    Steady::time_point last_;
    bool failed_ = false;
};

template <class Api>
class Model {
    using Value = typename Api::Value;
    using Net = typename Api::Net;
    using State = typename Api::Model;

public:
    Model(std::string_view so, const std::optional<std::string>& isa) {
        try {
            object_.emplace(so);
            net_ = object_->template function<const Net*()>(Api::entry)();
            init_ = object_->template function<Init>(Api::init);
            run_ = object_->template function<Run>(Api::run);
            self_test_ = object_->template function<Check>(Api::self_test);
            scrub_ = object_->template function<Check>(Api::scrub);
            if constexpr (std::is_same_v<Api, Int8>) {
                trace_ = object_->template function<decltype(sedge_trace)>("sedge_trace");
            }
            status_text_ = object_->template function<decltype(sedge_status_text)>("sedge_status_text");
        } catch (const std::runtime_error& error) {
            throw_typed("KernelError", std::string("not a compiled model: ") + error.what());
        }
        check_net();
        arena_.emplace(net_->arena_bytes, net_->arena_align);
        check(init_(&model_, net_, isa ? isa->c_str() : nullptr, arena_->data(), net_->arena_bytes),
              isa ? "isa = '" + *isa + "'" : std::string("init"));
    }

    pybind11::array run(const pybind11::handle& input) {
        const auto in =
            require_array(input, "input", pybind11::dtype::of<Value>(), {length(net_->input_len)});
        pybind11::array_t<Value> out(length(net_->classes));
        run_rows(static_cast<const Value*>(in.data()), out.mutable_data(), 1);
        return std::move(out);
    }

    pybind11::array run_batch(const pybind11::handle& inputs, const pybind11::object& outputs) {
        const auto dtype = pybind11::dtype::of<Value>();
        const auto in = require_array(inputs, "inputs", dtype, {-1, length(net_->input_len)});
        pybind11::array out =
            outputs.is_none() ? pybind11::array_t<Value>({in.shape(0), length(net_->classes)})
                              : require_array(outputs, "out", dtype, {in.shape(0), length(net_->classes)});
        run_rows(static_cast<const Value*>(in.data()), static_cast<Value*>(out.mutable_data()), in.shape(0));
        return out;
    }

    void self_test() {
        check(locked([&] { return self_test_(&model_); }), "self-test");
        check_canaries();
    }

    void scrub() {
        check(locked([&] { return scrub_(&model_); }), "scrub");
    }

    pybind11::list trace(const pybind11::handle& input) {
        const auto in =
            require_array(input, "input", pybind11::dtype::of<std::int8_t>(), {length(net_->input_len)});
        TraceSink sink;
        const auto* data = static_cast<const std::int8_t*>(in.data());
        Whole whole = whole_layers();
        check(trace_(&whole.model, data, collect_layer, &sink), "trace");
        require_intact(whole.arena);
        if (sink.failed) {
            throw std::bad_alloc();
        }
        pybind11::list layers;
        for (const TracedLayer& layer : sink.layers) {
            pybind11::array_t<std::int8_t> values({length(layer.channels), length(layer.length)});
            std::copy(layer.data.begin(), layer.data.end(), values.mutable_data());
            layers.append(pybind11::make_tuple(layer.name, values));
        }
        return layers;
    }

    StepClock::Times layer_times(const pybind11::handle& input) {
        const auto in =
            require_array(input, "input", pybind11::dtype::of<Value>(), {length(net_->input_len)});
        RunSteps* run_steps = nullptr;
        try {
            run_steps = object_->template function<RunSteps>(Api::run_steps);
        } catch (const std::runtime_error&) {
            throw_typed("KernelError",
                        std::string(net_->name) +
                            ": layer_times: compiled by a libsedge whose kernels show no steps");
        }
        const auto* data = static_cast<const Value*>(in.data());
        std::vector<Value> logits(net_->classes);
        std::optional<StepClock> clock;
        check(locked([&] {
                  clock.emplace();
                  return run_steps(&model_, data, logits.data(), StepClock::step, &*clock);
              }),
              "layer_times");
        check_canaries();
        return clock->times();
    }

    // One run for a caller that does not hold the GIL; `check_ran` judges it where the GIL is held again.
    sedge_status run_unheld(const Value* in, Value* out) {
        const std::lock_guard<std::mutex> lock(mutex_);
        return run_(&model_, in, out);
    }

    void check_ran(sedge_status status) const {
        check(status, "run");
        check_canaries();
    }

    void check_canaries() const { require_intact(*arena_); }

    void require_intact(const Arena& arena) const {
        damaged_ = damaged_ || !arena.intact();
        if (damaged_) {
            throw_typed("KernelError", std::string(net_->name) + ", kernel '" + model_.kernel->isa +
                                           "' wrote outside its arena; its results are worthless");
        }
    }

    std::vector<std::pair<std::string, bool>> isas() const {
        std::vector<std::pair<std::string, bool>> all;
        for (std::size_t i = 0; i < net_->kernel_count; ++i) {
            all.emplace_back(net_->kernels[i].isa, net_->kernels[i].runnable() != 0);
        }
        return all;
    }

    const Net& net() const { return *net_; }
    const char* isa() const { return model_.kernel->isa; }

private:
    static pybind11::ssize_t length(std::size_t value) { return static_cast<pybind11::ssize_t>(value); }

    // What the loader can see of a net before any of its code but the entry ran.
    void check_net() const {
        if (net_ == nullptr) {
            throw_typed("KernelError", "sedge_net_entry returned NULL");
        }
        if (net_->abi != SEDGE_ABI_VERSION) {
            throw_typed("KernelError", "the model was compiled for ABI version " + std::to_string(net_->abi) +
                                           "; this libsedge has " + std::to_string(SEDGE_ABI_VERSION));
        }
        const std::size_t align = net_->arena_align;
        if (align == 0 || (align & (align - 1)) != 0 || net_->input_len == 0 || net_->classes == 0 ||
            net_->kernel_count == 0 || net_->name == nullptr || net_->digest == nullptr) {
            throw_typed("KernelError", "the model's table of sizes does not hold together");
        }
    }

    void check(sedge_status status, const std::string& doing) const {
        if (status != SEDGE_OK) {
            throw_typed(error_class(status),
                        std::string(net_->name) + ": " + doing + ": " + status_text_(status));
        }
    }

    // Whole layers may need more memory than a run: they get an arena of their own.
    struct Whole {
        Arena arena;
        State model{};
    };

    Whole whole_layers() const {
        Whole whole{Arena(std::max(net_->arena_bytes, net_->trace_bytes), net_->arena_align)};
        check(init_(&whole.model, net_, model_.kernel->isa, whole.arena.data(), whole.arena.size()), "trace");
        return whole;
    }

    // One arena: one call at a time, without holding up other Python threads.
    template <typename Call>
    sedge_status locked(Call call) {
        pybind11::gil_scoped_release release;
        const std::lock_guard<std::mutex> lock(mutex_);
        return call();
    }

    void run_rows(const Value* in, Value* out, pybind11::ssize_t rows) {
        check_ran(locked([&] {
            sedge_status row_status = SEDGE_OK;
            for (pybind11::ssize_t row = 0; row < rows && row_status == SEDGE_OK; ++row) {
                row_status = run_(&model_, in, out);
                in += net_->input_len;
                out += net_->classes;
            }
            return row_status;
        }));
    }

    std::optional<SharedObject> object_;
    const Net* net_ = nullptr;
    using Init = sedge_status(State*, const Net*, const char*, void*, std::size_t);
    using Run = sedge_status(State*, const Value*, Value*);
    using Check = sedge_status(State*);
    using RunSteps = sedge_status(State*, const Value*, Value*, sedge_step_fn, void*);
    Init* init_ = nullptr;
    Run* run_ = nullptr;
    Check* self_test_ = nullptr;
    Check* scrub_ = nullptr;
    decltype(&sedge_trace) trace_ = nullptr;
    decltype(&sedge_status_text) status_text_ = nullptr;
    std::optional<Arena> arena_;
    State model_{};
    mutable bool damaged_ = false;
    std::mutex mutex_;
};

} // namespace sedge

#endif
