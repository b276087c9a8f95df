// A shared object loaded from bytes that were already verified: no file name another program could swap.
#ifndef LIBSEDGE_SHARED_OBJECT_H
#define LIBSEDGE_SHARED_OBJECT_H

#include <string>
#include <string_view>

namespace sedge {

class SharedObject {
public:
    // Writes `bytes` to a memory file, seals it against any change and loads it. Throws std::runtime_error
    // with the reason (the loader's own words where it refused).
    explicit SharedObject(std::string_view bytes);
    ~SharedObject();
    SharedObject(const SharedObject&) = delete;
    SharedObject& operator=(const SharedObject&) = delete;

    // Throws std::runtime_error when it exports no such symbol.
    void* symbol(const char* name) const;

    template <typename Function>
    Function* function(const char* name) const {
        return reinterpret_cast<Function*>(symbol(name));
    }

private:
    int fd_ = -1;
    std::string path_;
    void* handle_ = nullptr;
};

} // namespace sedge

#endif
