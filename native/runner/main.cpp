// libsedge-run: one model linked in, frames in, decisions out as JSON lines, every frame accounted. No
// Python, no file but its own, no heap after the start. docs/runner.md says what it prints and when it
// refuses.
#include "constants.h"
#include "decide.h"
#include "input.h"
#include "json_line.h"
#include "ledger.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/auxv.h>
#include <unistd.h>

namespace sedge::runner {
namespace {

constexpr int kExitUnaccounted = 1; // a frame is in none of the places: a fault of the program
constexpr int kExitMistake = 2;     // an option, or a start check that did not hold
constexpr int kExitFault = 3;       // the weights decayed, or nobody takes the output any more

volatile std::sig_atomic_t stop_requested = 0;

void on_signal(int) { stop_requested = 1; }

struct Options {
    const char* source = "stdin";
    const char* isa = nullptr;
    unsigned long long count = 0;         // 0 = no limit
    unsigned long long check_every = 100; // classified frames between two checks of weights and canary
    unsigned long long max_channels = kFrameMaxChannels;
    double idle_exit_s = 0.0; // 0 = never
    double idle_s = 10.0;
    bool check = false;
};

const char kUsage[] =
    "usage: libsedge-run [OPTIONS]\n"
    "  --source SPEC      stdin (default), tcp:PORT or tcp:ADDRESS:PORT; loopback addresses only\n"
    "  --isa NAME         demand this instruction set; else that of LIBSEDGE_ISA, else the fastest proven "
    "here\n"
    "  --count N          stop after so many frames\n"
    "  --idle-exit S      stop after so many seconds without a frame\n"
    "  --idle S           cut a TCP peer off that stops in the middle of a frame for so long (10)\n"
    "  --check-every N    check weights and canary every so many classified frames (100)\n"
    "  --max-channels N   a frame that claims more is damaged (65536)\n"
    "  --check            run the start checks, say what is linked in, and stop\n";

int mistake(const char* what, const char* why) {
    std::fprintf(stderr, "error: %s: %s\n", what, why);
    return kExitMistake;
}

bool whole_number(const char* text, unsigned long long low, unsigned long long high,
                  unsigned long long* out) {
    char* end = nullptr;
    errno = 0;
    *out = std::strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *out >= low && *out <= high;
}

bool seconds(const char* text, double* out) {
    char* end = nullptr;
    *out = std::strtod(text, &end);
    return end != text && *end == '\0' && *out > 0.0 && *out < 1e9;
}

// 0, or the exit code.
int parse(int argc, char** argv, Options* options) {
    for (int i = 1; i < argc; ++i) {
        const char* name = argv[i];
        if (std::strcmp(name, "--check") == 0) {
            options->check = true;
            continue;
        }
        const char* value = i + 1 < argc ? argv[++i] : nullptr;
        bool good = value != nullptr;
        if (std::strcmp(name, "--source") == 0) {
            options->source = value;
        } else if (std::strcmp(name, "--isa") == 0) {
            options->isa = value;
        } else if (std::strcmp(name, "--count") == 0) {
            good = good && whole_number(value, 1, ~0ULL, &options->count);
        } else if (std::strcmp(name, "--check-every") == 0) {
            good = good && whole_number(value, 1, ~0ULL, &options->check_every);
        } else if (std::strcmp(name, "--max-channels") == 0) {
            good = good && whole_number(value, 1, kFrameMaxChannels, &options->max_channels);
        } else if (std::strcmp(name, "--idle-exit") == 0) {
            good = good && seconds(value, &options->idle_exit_s);
        } else if (std::strcmp(name, "--idle") == 0) {
            good = good && seconds(value, &options->idle_s);
        } else {
            std::fputs(kUsage, stderr);
            return mistake(name, "no such option");
        }
        if (!good) {
            return mistake(name, value == nullptr ? "needs a value" : "the value is out of its range");
        }
    }
    const char* wanted = std::getenv("LIBSEDGE_ISA");
    if (options->isa == nullptr && wanted != nullptr && wanted[0] != '\0') {
        options->isa = wanted;
    }
    return 0;
}

double now_s() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

std::uint32_t wire_crc(const FrameView& frame) {
    const std::uint8_t* p = frame.payload - 4; // the header's last field
    return static_cast<std::uint32_t>(p[0]) | static_cast<std::uint32_t>(p[1]) << 8 |
           static_cast<std::uint32_t>(p[2]) << 16 | static_cast<std::uint32_t>(p[3]) << 24;
}

class Runner {
public:
    Runner(const Constants& constants, const Options& options, Ledger* ledger)
        : constants_(constants), options_(options), ledger_(*ledger), decider_(constants, options.isa),
          input_(static_cast<std::uint32_t>(options.max_channels), options.idle_s, &ledger_),
          line_(line_bytes(constants)) {}

    Decider& decider() { return decider_; }
    Input& input() { return input_; }

    // To the end of the input; the exit code.
    int run() {
        double last_frame = now_s();
        bool go_on = true;
        while (go_on && stop_requested == 0) {
            const std::uint64_t before = ledger_.received();
            go_on = input_.turn(100, [this](const FrameView& frame) { return take(frame); });
            const double now = now_s();
            last_frame = ledger_.received() != before ? now : last_frame;
            go_on = go_on && !(options_.count != 0 && ledger_.received() >= options_.count) &&
                    !(options_.idle_exit_s > 0.0 && now - last_frame > options_.idle_exit_s);
        }
        if (options_.count == 0 || ledger_.received() < options_.count) {
            input_.cut_off();
        }
        account();
        const bool told = line_.write_to(STDOUT_FILENO, &stop_requested);
        if (!told) {
            account();
            line_.write_to(STDERR_FILENO, &stop_requested);
        }
        if (ledger_.unaccounted() != 0 || ledger_.in_flight() != 0) {
            return kExitUnaccounted;
        }
        return fault_ != nullptr || !told ? kExitFault : 0;
    }

private:
    static std::size_t line_bytes(const Constants& c) {
        std::size_t longest = 0;
        for (std::size_t i = 0; i < c.classes; ++i) {
            const std::size_t length = std::strlen(c.labels[i]);
            longest = length > longest ? length : longest;
        }
        const std::size_t decision = 1024 + longest + 32 * c.classes;
        const std::size_t account = 4096 + 512 * Ledger::kMaxEpochs;
        return decision > account ? decision : account;
    }

    // One frame of the stream; false: stop.
    bool take(const FrameView& frame) {
        if (!bound_) {
            stream_ = frame.stream_id;
            bound_ = true;
        }
        if (frame.stream_id != stream_) {
            ++ledger_.wrong_stream;
            return go_on();
        }
        const bool seen = ledger_.receive(frame.stream_id, frame.epoch, frame.sequence);
        const bool fits = frame.channels == constants_.channels;
        const bool dark = (frame.flags & 1) != 0;
        // Also of a dark that came before, as in the Python runtime.
        const bool good_dark = dark && fits && decider_.take_dark(frame);
        if (seen) {
            ledger_.finish(End::duplicate);
        } else if (!fits) {
            ledger_.finish(End::wrong_length);
        } else if (!dark && (frame.flags & 2) == 0) {
            return light(frame);
        } else {
            report(frame, dark ? "dark" : "passive", nullptr, dark && !good_dark);
        }
        return go_on();
    }

    bool light(const FrameView& frame) {
        if (++classified_ % options_.check_every == 0) {
            fault_ = decider_.check_running();
            if (fault_ != nullptr) {
                std::fprintf(stderr, "error: memory decayed: %s\n", fault_);
                ledger_.finish(End::unreported); // no decision of decayed memory leaves
                return false;
            }
        }
        const Decision decision = decider_.decide(frame);
        report(frame, "light", &decision, false);
        return go_on();
    }

    bool go_on() const {
        const bool enough = options_.count != 0 && ledger_.received() >= options_.count;
        return stop_requested == 0 && !enough && fault_ == nullptr;
    }

    void report(const FrameView& frame, const char* role, const Decision* decision, bool bad_dark) {
        line_.open(nullptr, '{');
        line_.integer("stream", frame.stream_id);
        line_.integer("epoch", frame.epoch);
        line_.integer("sequence", frame.sequence);
        line_.integer("time_ns", frame.time_ns);
        if (frame.distance_mm != 0) {
            line_.integer("distance_mm", frame.distance_mm);
        } else {
            line_.null("distance_mm");
        }
        line_.string("role", role);
        verdict(decision, bad_dark);
        line_.string("model", constants_.digest);
        line_.integer("frame_crc", wire_crc(frame));
        line_.close('}');
        if (line_.write_to(STDOUT_FILENO, &stop_requested)) {
            ledger_.finish(End::reported);
            return;
        }
        ledger_.finish(End::unreported);
        if (errno == EPIPE && fault_ == nullptr) {
            fault_ = "nobody takes the output";
            std::fprintf(stderr, "error: %s\n", fault_);
        }
    }

    void verdict(const Decision* decision, bool bad_dark) {
        const bool ran = decision != nullptr && decision->ran;
        const char* reason = bad_dark ? "non_finite" : decision != nullptr ? decision->reason : nullptr;
        if (ran) {
            line_.key("label");
            line_.text(constants_.labels[decision->index]);
            line_.real("confidence", decision->confidence);
        } else {
            line_.null("label");
            line_.null("confidence");
        }
        if (decision != nullptr || bad_dark) {
            line_.boolean("accepted", reason == nullptr);
        } else {
            line_.null("accepted");
        }
        if (reason != nullptr) {
            line_.string("reason", reason);
        } else {
            line_.null("reason");
        }
        if (ran) {
            line_.reals("probabilities", decision->probabilities, constants_.classes);
        } else {
            line_.null("probabilities");
        }
    }

    void account() {
        const Ledger& l = ledger_;
        line_.open(nullptr, '{');
        line_.open("account", '{');
        line_.integer("received", l.received());
        line_.integer("reported", l.reported);
        line_.integer("unreported", l.unreported);
        line_.integer("duplicate", l.duplicate);
        line_.open("rejected", '{');
        const struct {
            const char* reason;
            std::uint64_t count;
        } rejected[] = {{"crc", l.crc},
                        {"header", l.header},
                        {"truncated", l.truncated},
                        {"wrong_length", l.wrong_length},
                        {"wrong_stream", l.wrong_stream}};
        for (const auto& it : rejected) {
            if (it.count > 0) {
                line_.integer(it.reason, it.count);
            }
        }
        line_.close('}');
        line_.integer("in_flight", l.in_flight());
        line_.integer("unaccounted", l.unaccounted());
        line_.open("streams", '[');
        for (std::size_t i = 0; i < Ledger::kMaxEpochs; ++i) {
            if (l.epochs()[i].used != 0) {
                epoch(l.epochs()[i]);
            }
        }
        line_.close(']');
        const Ledger::Forgotten& old = l.forgotten();
        line_.open("forgotten_epochs", '{');
        line_.integer("epochs", old.epochs);
        line_.integer("unique", old.unique);
        line_.integer("gaps", old.gaps);
        line_.integer("duplicates", old.duplicates);
        line_.close('}');
        line_.close('}');
        const Input::Numbers n = input_.numbers();
        line_.open("source", '{');
        line_.integer("connections", n.connections);
        line_.integer("connections_refused", n.connections_refused);
        line_.integer("cut_off", n.cut_off);
        line_.integer("decoded", n.decoded);
        line_.integer("garbage_bytes", n.garbage_bytes);
        line_.integer("truncated_bytes", n.truncated_bytes);
        line_.close('}');
        line_.string("model", constants_.digest);
        line_.string("isa", decider_.isa());
        line_.close('}');
    }

    void epoch(const EpochCount& it) {
        const std::uint64_t span = it.unique > 0 ? it.last - it.first : 0;
        line_.open(nullptr, '{');
        line_.integer("stream", it.stream);
        line_.integer("epoch", it.epoch);
        line_.integer("first", it.first);
        line_.integer("last", it.last);
        if (span == ~std::uint64_t{0}) { // 2^64 numbers are expected, one more than fits
            line_.key("expected");
            line_.text("18446744073709551616");
        } else {
            line_.integer("expected", it.unique > 0 ? span + 1 : 0);
        }
        line_.integer("unique", it.unique);
        line_.integer("gaps", it.unique > 0 ? span - (it.unique - 1) : 0);
        line_.integer("duplicates", it.duplicates);
        line_.boolean("exact", it.exact);
        line_.close('}');
    }

    const Constants& constants_;
    const Options& options_;
    Ledger& ledger_;
    Decider decider_;
    Input input_;
    JsonLine line_;
    bool bound_ = false;
    std::uint32_t stream_ = 0;
    std::uint64_t classified_ = 0;
    const char* fault_ = nullptr;
};

// Static: pages of it that are never needed are never touched.
Ledger ledger;

int run(int argc, char** argv) {
    Options options;
    const int wrong = parse(argc, argv, &options);
    if (wrong != 0) {
        return wrong;
    }
    Runner runner(constants, options, &ledger);
    if (runner.decider().status() != SEDGE_OK) {
        return mistake(options.isa != nullptr ? options.isa : "model",
                       sedge_status_text(runner.decider().status()));
    }
    const char* broken = runner.decider().check_start();
    if (broken != nullptr) {
        return mistake("start check", broken);
    }
    if (options.check) {
        // Asking for getauxval here also brings it into a static program, where the ARM kernels need it and
        // only ask weakly.
        std::printf("libsedge-run %s\nbundle   %s\nsha256   %s\nmodel    %s\nisa      %s\nhwcap    %#lx\n"
                    "channels %zu\nclasses  %zu\nchecks   goldens, weights and canary hold\n",
                    constants.version, constants.bundle, constants.digest, constants.net->digest,
                    runner.decider().isa(), getauxval(AT_HWCAP), constants.channels, constants.classes);
        return std::fflush(stdout) == 0 ? 0 : kExitFault;
    }
    const char* unusable = runner.input().open(options.source);
    if (unusable != nullptr) {
        return mistake(options.source, unusable);
    }
    struct sigaction action{};
    action.sa_handler = on_signal; // no SA_RESTART: a wait ends
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    if (runner.input().address()[0] != '\0') {
        std::fprintf(stderr, "listening on %s\n", runner.input().address());
    }
    return runner.run();
}

} // namespace
} // namespace sedge::runner

int main(int argc, char** argv) { return sedge::runner::run(argc, argv); }
