// libsedge-run: one model linked in, frames in, decisions out as JSON lines, every frame accounted. No
// Python, no file but its own and the key of signed frames, no heap after the start. docs/runner.md says what
// it prints and when it refuses.
#include "constants.h"
#include "decide.h"
#include "input.h"
#include "ledger.h"
#include "lines.h"
#include "options.h"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <sys/auxv.h>
#include <unistd.h>

namespace sedge::runner {
namespace {

volatile std::sig_atomic_t stop_requested = 0;

void on_signal(int) { stop_requested = 1; }

class Runner {
public:
    Runner(const Constants& constants, const Options& options, const Authentication& with, Ledger* ledger)
        : constants_(constants), options_(options), ledger_(*ledger),
          decider_(constants, options.isa, options.corrections),
          input_(static_cast<std::uint32_t>(options.max_channels), options.idle_s, with, &ledger_),
          lines_(constants) {}

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
        if (input_.broken() != 0 && fault_ == nullptr) {
            fault_ = std::strerror(input_.broken());
            std::fprintf(stderr, "error: standard input cannot be read: %s\n", fault_);
        }
        if (options_.count == 0 || ledger_.received() < options_.count) {
            input_.cut_off();
        }
        const bool told = lines_.account(ledger_, input_, decider_).write_to(STDOUT_FILENO, &stop_requested);
        if (!told) {
            lines_.account(ledger_, input_, decider_).write_to(STDERR_FILENO, &stop_requested);
        }
        if (ledger_.unaccounted() != 0 || ledger_.in_flight() != 0) {
            return kExitUnaccounted;
        }
        return fault_ != nullptr || !told ? kExitFault : 0;
    }

private:
    // One frame of the stream; false: stop.
    bool take(const FrameView& frame) {
        if (options_.times) {
            times_.readable = static_cast<std::uint64_t>(1e9 * input_.turned_at());
            times_.arrived = now_ns();
        }
        if (!bound_) {
            stream_ = frame.stream_id;
            bound_ = true;
        }
        if (frame.stream_id != stream_) {
            ++ledger_.refused[kWrongStream];
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
        if (options_.times) {
            times_.decided = now_ns();
        }
        report(frame, "light", &decision, false);
        return go_on();
    }

    bool go_on() const {
        const bool enough = options_.count != 0 && ledger_.received() >= options_.count;
        return stop_requested == 0 && !enough && fault_ == nullptr;
    }

    void report(const FrameView& frame, const char* role, const Decision* decision, bool bad_dark) {
        const Times* times = options_.times && decision != nullptr ? &times_ : nullptr;
        if (lines_.frame(frame, role, decision, bad_dark, times).write_to(STDOUT_FILENO, &stop_requested)) {
            ledger_.finish(End::reported);
            return;
        }
        ledger_.finish(End::unreported);
        if (errno == EPIPE && fault_ == nullptr) {
            fault_ = "nobody takes the output";
            std::fprintf(stderr, "error: %s\n", fault_);
        }
    }

    const Constants& constants_;
    const Options& options_;
    Ledger& ledger_;
    Decider decider_;
    Input input_;
    Lines lines_;
    bool bound_ = false;
    std::uint32_t stream_ = 0;
    std::uint64_t classified_ = 0;
    Times times_{};
    const char* fault_ = nullptr;
};

// Static: pages of it that are never needed are never touched.
Ledger ledger;

int run(int argc, char** argv) {
    Options options;
    const int wrong = parse(argc, argv, &options);
    if (wrong != 0 || options.help) {
        return wrong;
    }
    FrameKey key;
    Authentication with;
    if (options.hmac_key != nullptr) {
        const char* wrong = key.read(options.hmac_key);
        if (wrong != nullptr) {
            return mistake(options.hmac_key, wrong);
        }
        with = {&key, static_cast<std::uint32_t>(options.min_epoch)};
    }
    Runner runner(constants, options, with, &ledger);
    const Network& network = runner.decider().network();
    if (network.status() != SEDGE_OK) {
        return mistake(options.isa != nullptr ? options.isa : "model", sedge_status_text(network.status()));
    }
    const char* impossible = runner.decider().check_corrections();
    if (impossible != nullptr) {
        return mistake("--follow-drift", impossible);
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
                    constants.version, constants.bundle, constants.digest, network.digest(), network.isa(),
                    getauxval(AT_HWCAP), constants.channels, constants.classes);
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
    std::signal(SIGXFSZ, SIG_IGN); // an output at its size limit refuses lines like a full disk
    if (runner.input().address()[0] != '\0') {
        std::fprintf(stderr, "listening on %s\n", runner.input().address());
    }
    return runner.run();
}

} // namespace
} // namespace sedge::runner

int main(int argc, char** argv) { return sedge::runner::run(argc, argv); }
