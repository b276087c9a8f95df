// The command line of libsedge-run.
#ifndef LIBSEDGE_RUNNER_OPTIONS_H
#define LIBSEDGE_RUNNER_OPTIONS_H

#include "decide.h"

namespace sedge::runner {

constexpr int kExitUnaccounted = 1; // a frame is in none of the places: a fault of the program
constexpr int kExitMistake = 2;     // an option, or a start check that did not hold
constexpr int kExitFault = 3;       // the weights decayed, or nobody takes the output any more

struct Options {
    const char* source = "stdin";
    const char* isa = nullptr;
    const char* hmac_key = nullptr;       // a file; null: frames are not signed
    unsigned long long min_epoch = 0;     // of signed frames
    unsigned long long count = 0;         // 0 = no limit
    unsigned long long check_every = 100; // classified frames between two checks of weights and canary
    unsigned long long max_channels = kFrameMaxChannels;
    double idle_exit_s = 0.0; // 0 = never
    double idle_s = 10.0;
    bool help = false; // the usage was printed: nothing else is wanted
    bool check = false;
    bool times = false;
    Corrections corrections;
};

// One line on standard error; the exit code.
int mistake(const char* what, const char* why);

// 0, or the exit code.
int parse(int argc, char** argv, Options* options);

} // namespace sedge::runner

#endif
