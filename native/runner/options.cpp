#include "options.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace sedge::runner {
namespace {

const char kUsage[] =
    "usage: libsedge-run [OPTIONS]\n"
    "  --source SPEC      stdin (default), tcp:[ADDRESS:]PORT, udp:[ADDRESS:]PORT,\n"
    "                     ccsds:udp:[ADDRESS:]PORT[,apid=N], ccsds:tcp:[ADDRESS:]PORT[,apid=N]\n"
    "                     or serial:DEVICE[,baud=N][,rtscts]; loopback addresses only, but where\n"
    "                     frames are signed\n"
    "  --hmac-key FILE    take nothing but frames signed with this key, of udp, ccsds:udp and serial\n"
    "  --min-epoch N      with a key: refuse what is of an earlier epoch as replayed (0)\n"
    "  --isa NAME         demand this instruction set; else that of LIBSEDGE_ISA, else the fastest proven "
    "here\n"
    "  --count N          stop after so many frames\n"
    "  --idle-exit S      stop after so many seconds without a frame\n"
    "  --idle S           cut a TCP peer off that stops in the middle of a frame for so long, give a frame\n"
    "                     up whose segments stop coming (10)\n"
    "  --check-every N    check weights and canary every so many classified frames (100)\n"
    "  --max-channels N   a frame that claims more is damaged (65536)\n"
    "  --follow-drift     follow the wavelength axis by lines of Mg, Ca and Na\n"
    "  --bad-pixels SIGMA leave pixels out that stand off by so much in a dark frame (3 to 1000)\n"
    "  --times            say of every decision how long it took, and when\n"
    "  --check            run the start checks, say what is linked in, and stop\n";

// Options of `libsedge run` that are about several frames.
constexpr const char* kOfBursts[] = {"--cosmic", "--burst", "--burst-gap"};

bool whole_number(const char* text, unsigned long long low, unsigned long long high,
                  unsigned long long* out) {
    char* end = nullptr;
    errno = 0;
    *out = std::strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && *out >= low && *out <= high;
}

bool positive(const char* text, double* out) {
    char* end = nullptr;
    *out = std::strtod(text, &end);
    return end != text && *end == '\0' && *out > 0.0 && *out < 1e9;
}

} // namespace

int mistake(const char* what, const char* why) {
    std::fprintf(stderr, "error: %s: %s\n", what, why);
    return kExitMistake;
}

int parse(int argc, char** argv, Options* options) {
    for (int i = 1; i < argc; ++i) {
        const char* name = argv[i];
        if (std::strcmp(name, "--times") == 0) {
            options->times = true;
            continue;
        }
        if (std::strcmp(name, "--help") == 0 || std::strcmp(name, "-h") == 0) {
            options->help = true;
            return std::fputs(kUsage, stdout) < 0 || std::fflush(stdout) != 0 ? kExitFault : 0;
        }
        if (std::strcmp(name, "--check") == 0) {
            options->check = true;
            continue;
        }
        if (std::strcmp(name, "--follow-drift") == 0) {
            options->corrections.follow_drift = true;
            continue;
        }
        for (const char* other : kOfBursts) {
            if (std::strcmp(name, other) == 0) {
                return mistake(name,
                               "this program decides every frame by itself; `libsedge run` makes bursts");
            }
        }
        const char* value = i + 1 < argc ? argv[++i] : nullptr;
        bool good = value != nullptr;
        if (std::strcmp(name, "--source") == 0) {
            options->source = value;
        } else if (std::strcmp(name, "--isa") == 0) {
            options->isa = value;
        } else if (std::strcmp(name, "--hmac-key") == 0) {
            options->hmac_key = value;
        } else if (std::strcmp(name, "--min-epoch") == 0) {
            good = good && whole_number(value, 0, 0xFFFFFFFFULL, &options->min_epoch);
        } else if (std::strcmp(name, "--count") == 0) {
            good = good && whole_number(value, 1, ~0ULL, &options->count);
        } else if (std::strcmp(name, "--check-every") == 0) {
            good = good && whole_number(value, 1, ~0ULL, &options->check_every);
        } else if (std::strcmp(name, "--max-channels") == 0) {
            good = good && whole_number(value, 1, kFrameMaxChannels, &options->max_channels);
        } else if (std::strcmp(name, "--idle-exit") == 0) {
            good = good && positive(value, &options->idle_exit_s);
        } else if (std::strcmp(name, "--idle") == 0) {
            good = good && positive(value, &options->idle_s);
        } else if (std::strcmp(name, "--bad-pixels") == 0) {
            good = good && positive(value, &options->corrections.bad_sigma) &&
                   options->corrections.bad_sigma >= 3.0 && options->corrections.bad_sigma <= 1000.0;
        } else {
            std::fputs(kUsage, stderr);
            return mistake(name, "no such option");
        }
        if (value == nullptr) {
            return mistake(name, "needs a value");
        }
        if (!good) {
            std::fprintf(stderr, "error: %s = '%s': the value is out of its range\n", name, value);
            return kExitMistake;
        }
    }
    if (options->min_epoch != 0 && options->hmac_key == nullptr) {
        return mistake("--min-epoch", "is for signed frames: --hmac-key");
    }
    const char* wanted = std::getenv("LIBSEDGE_ISA");
    if (options->isa == nullptr && wanted != nullptr && wanted[0] != '\0') {
        options->isa = wanted;
    }
    return 0;
}

} // namespace sedge::runner
