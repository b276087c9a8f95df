#include "shared_object.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U // Linux 6.3
#endif

namespace sedge {
namespace {

[[noreturn]] void fail(const char* what) {
    throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

int create_memory_file() {
    constexpr unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    int fd = memfd_create("libsedge-model", flags | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) { // a kernel that does not know MFD_EXEC
        fd = memfd_create("libsedge-model", flags);
    }
    if (fd < 0) {
        fail("memfd_create");
    }
    return fd;
}

void write_and_seal(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t written = write(fd, bytes.data(), bytes.size());
        if (written < 0 && errno != EINTR) {
            fail("writing the model to memory");
        }
        bytes.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0) {
        fail("sealing the model's memory file");
    }
}

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

bool is_loaded(const std::string& path) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
    if (handle != nullptr) {
        dlclose(handle);
    }
    return handle != nullptr;
}

} // namespace

// The loader knows a library by the name it was opened with: under a name already in use it would hand out
// the older model. So the descriptor stays open as long as the model is loaded, and a name in use is stepped
// over.
SharedObject::SharedObject(std::string_view bytes) : fd_(create_memory_file()) {
    try {
        write_and_seal(fd_, bytes);
        while (is_loaded(fd_path(fd_))) {
            const int higher = fcntl(fd_, F_DUPFD_CLOEXEC, fd_ + 1);
            if (higher < 0) {
                fail("duplicating the model's descriptor");
            }
            close(fd_);
            fd_ = higher;
        }
        path_ = fd_path(fd_);
        handle_ = dlopen(path_.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (handle_ == nullptr) {
            const char* why = dlerror();
            throw std::runtime_error(std::string("the loader refused it: ") +
                                     (why ? why : "no reason given"));
        }
    } catch (...) {
        close(fd_);
        throw;
    }
}

SharedObject::~SharedObject() {
    dlclose(handle_);
    if (!is_loaded(path_)) { // an object that cannot be unloaded keeps its descriptor, and so its name
        close(fd_);
    }
}

void* SharedObject::symbol(const char* name) const {
    void* found = dlsym(handle_, name);
    if (found == nullptr) {
        throw std::runtime_error(std::string("it does not export ") + name);
    }
    return found;
}

} // namespace sedge
