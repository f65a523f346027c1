// The HDF5 calls behind Hdf5File: scoped handles, silenced error stack, newest checksummed file structures.
#include "data/hdf5_file.h"

#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <utility>

#include "duologue/core/error.h"
#include "duologue/data/inspection.h"

namespace duologue {

namespace {

/// The library's own account of its last failure, innermost first: "what: detail; what: detail".
std::string failure_text() {
    std::string text;
    const auto visit = [](unsigned depth, const H5E_error2_t* error, void* data) -> herr_t {
        auto& out = *static_cast<std::string*>(data);
        if (depth > 1 || error->desc == nullptr) return 0;
        if (!out.empty()) out += "; ";
        out += error->desc;
        return 0;
    };
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, visit, &text);
    H5Eclear2(H5E_DEFAULT);
    return text.empty() ? "no reason given" : text;
}

/// The time during which one of our functions uses the library. The library has one state for the whole process, and
/// not every build of it guards that state, so one lock for the process does. It also prints its error stack unless
/// told not to (a setting per thread); we report that ourselves. And it would clean up at the process's exit, where a
/// file that a full disk kept from closing makes it crash; our handles have closed everything by then.
class LibraryCall {
   public:
    LibraryCall() : lock_(mutex()) {
        [[maybe_unused]] static const herr_t kNoCleanup = H5dont_atexit();  // before the library's first call
        H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    }

   private:
    static std::recursive_mutex& mutex() {
        static std::recursive_mutex one;
        return one;
    }
    std::lock_guard<std::recursive_mutex> lock_;
};

/// A handle of the library with the function that closes it.
class Handle {
   public:
    using Close = herr_t (*)(hid_t);
    Handle() = default;
    Handle(hid_t id, Close close) : id_(id), close_(close) {}
    ~Handle() { (void)reset(); }
    Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
    Handle& operator=(Handle&& other) noexcept {
        if (this != &other) {
            (void)reset();
            id_ = std::exchange(other.id_, H5I_INVALID_HID);
            close_ = other.close_;
        }
        return *this;
    }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;

    [[nodiscard]] hid_t get() const { return id_; }
    [[nodiscard]] bool valid() const { return id_ >= 0; }
    herr_t reset() {
        const hid_t id = std::exchange(id_, H5I_INVALID_HID);
        return id >= 0 ? close_(id) : 0;
    }

   private:
    hid_t id_ = H5I_INVALID_HID;
    Close close_ = nullptr;
};

struct TypeRow {
    Hdf5Type type;
    std::string_view name;
    std::int64_t bytes;
};
constexpr TypeRow kTypes[] = {
    {Hdf5Type::kF32, "f32", 4}, {Hdf5Type::kU8, "u8", 1},   {Hdf5Type::kU16, "u16", 2},
    {Hdf5Type::kU32, "u32", 4}, {Hdf5Type::kU64, "u64", 8}, {Hdf5Type::kI64, "i64", 8},
};

const TypeRow& row_of(Hdf5Type type) { return kTypes[static_cast<std::size_t>(type)]; }

hid_t file_type(Hdf5Type type) {
    switch (type) {
        case Hdf5Type::kF32:
            return H5T_IEEE_F32LE;
        case Hdf5Type::kU8:
            return H5T_STD_U8LE;
        case Hdf5Type::kU16:
            return H5T_STD_U16LE;
        case Hdf5Type::kU32:
            return H5T_STD_U32LE;
        case Hdf5Type::kU64:
            return H5T_STD_U64LE;
        case Hdf5Type::kI64:
            return H5T_STD_I64LE;
    }
    fail(ErrorCode::kInternal, "an HDF5 type numbered {}", static_cast<int>(type));
}

hid_t memory_type(Hdf5Type type) {
    switch (type) {
        case Hdf5Type::kF32:
            return H5T_NATIVE_FLOAT;
        case Hdf5Type::kU8:
            return H5T_NATIVE_UINT8;
        case Hdf5Type::kU16:
            return H5T_NATIVE_UINT16;
        case Hdf5Type::kU32:
            return H5T_NATIVE_UINT32;
        case Hdf5Type::kU64:
            return H5T_NATIVE_UINT64;
        case Hdf5Type::kI64:
            return H5T_NATIVE_INT64;
    }
    fail(ErrorCode::kInternal, "an HDF5 type numbered {}", static_cast<int>(type));
}

/// File access with checksummed structures (version 1.10 of the format) and, where it exists, no locking.
Handle access_properties() {
    Handle properties(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    const bool ready = properties.valid() &&
                       H5Pset_libver_bounds(properties.get(), H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0 &&
                       H5Pset_fclose_degree(properties.get(), H5F_CLOSE_STRONG) >= 0 &&
                       H5Pset_file_locking(properties.get(), 0, 1) >= 0;
    require(ready, ErrorCode::kInternal, "HDF5 refuses the file access properties: {}", failure_text());
    return properties;
}

}  // namespace

std::string_view name_of(Hdf5Type type) { return row_of(type).name; }

struct Hdf5File::State {
    std::string path;
    Handle file;
    mutable std::map<std::string, Handle>
        datasets;  // opened on first use; closed before the file, being declared after

    [[noreturn]] void damaged(std::string_view doing) const {
        fail(ErrorCode::kData, "'{}': cannot {}: {}; the file is damaged or incomplete: write or copy it again", path,
             doing, failure_text());
    }
    [[noreturn]] void write_failed(std::string_view doing) const {
        fail(ErrorCode::kInputOutput, "'{}': cannot {}: {}; is the disk full?", path, doing, failure_text());
    }
    [[nodiscard]] hid_t dataset(const std::string& name) const {
        if (const auto found = datasets.find(name); found != datasets.end()) return found->second.get();
        Handle opened(H5Dopen2(file.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
        if (!opened.valid()) damaged(fmt::format("open dataset '{}'", name));
        return datasets.emplace(name, std::move(opened)).first->second.get();
    }
};

Hdf5File::Hdf5File(std::unique_ptr<State> state) : state_(std::move(state)) {}
Hdf5File::Hdf5File(Hdf5File&&) noexcept = default;
Hdf5File& Hdf5File::operator=(Hdf5File&& other) noexcept {
    const LibraryCall call;
    state_ = std::move(other.state_);
    return *this;
}

Hdf5File::~Hdf5File() {
    if (state_ == nullptr) return;
    const LibraryCall call;
    state_.reset();
}

const std::string& Hdf5File::path() const { return state_->path; }

Hdf5File Hdf5File::create(const std::string& path) {
    const LibraryCall call;
    auto state = std::make_unique<State>();
    state->path = path;
    const Handle access = access_properties();
    const Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
    require(H5Pset_obj_track_times(creation.get(), 0) >= 0, ErrorCode::kInternal,
            "HDF5 refuses to leave times out of a file: {}", failure_text());
    state->file = Handle(H5Fcreate(path.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
    require(state->file.valid(), ErrorCode::kInputOutput, "cannot create '{}': {}", path, failure_text());
    return Hdf5File(std::move(state));
}

Hdf5File Hdf5File::open(const std::string& path) {
    const LibraryCall call;
    std::error_code problem;
    const bool regular = std::filesystem::is_regular_file(path, problem);
    require(!problem && regular, ErrorCode::kInputOutput, "cannot open '{}': {}", path,
            problem ? problem.message() : "it does not exist or is not a file");
    auto state = std::make_unique<State>();
    state->path = path;
    const Handle access = access_properties();
    require(H5Fis_hdf5(path.c_str()) != 0, ErrorCode::kData,
            "'{}' is not an HDF5 file; give another, or write or copy it again if it was one", path);
    state->file = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
    if (!state->file.valid()) state->damaged("open it as an HDF5 file");
    haddr_t end = 0;
    if (H5Fget_eoa(state->file.get(), &end) < 0) state->damaged("find its end");
    const std::uintmax_t size = std::filesystem::file_size(path, problem);
    require(!problem, ErrorCode::kInputOutput, "cannot find the size of '{}': {}", path, problem.message());
    require(size == end, ErrorCode::kData,
            "'{}' has {} bytes, but the HDF5 file in it has {}; the file is damaged: write or copy it again", path,
            size, end);
    return Hdf5File(std::move(state));
}

void Hdf5File::write_attribute(const std::string& name, std::int64_t value) {
    const LibraryCall call;
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
    const Handle attribute(
        H5Acreate2(state_->file.get(), name.c_str(), H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    if (!attribute.valid() || H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
        state_->write_failed(fmt::format("write attribute '{}'", name));
    }
}

void Hdf5File::write_attribute(const std::string& name, std::string_view text) {
    const LibraryCall call;
    // Fixed length: variable-length strings live in a heap without checksums.
    const Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
    const std::string terminated(text);
    const bool typed = type.valid() && H5Tset_size(type.get(), terminated.size() + 1) >= 0 &&
                       H5Tset_cset(type.get(), H5T_CSET_UTF8) >= 0;
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
    const Handle attribute(
        typed ? H5Acreate2(state_->file.get(), name.c_str(), type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT)
              : H5I_INVALID_HID,
        H5Aclose);
    if (!attribute.valid() || H5Awrite(attribute.get(), type.get(), terminated.c_str()) < 0) {
        state_->write_failed(fmt::format("write attribute '{}'", name));
    }
}

bool Hdf5File::has_attribute(const std::string& name) const {
    const LibraryCall call;
    const htri_t answer = H5Aexists(state_->file.get(), name.c_str());
    if (answer < 0) state_->damaged(fmt::format("look for attribute '{}'", name));
    return answer > 0;
}

std::int64_t Hdf5File::read_integer(const std::string& name) const {
    const LibraryCall call;
    const Handle attribute(H5Aopen(state_->file.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
    std::int64_t value = 0;
    if (!attribute.valid()) state_->damaged(fmt::format("open attribute '{}'", name));
    const Handle space(H5Aget_space(attribute.get()), H5Sclose);
    const Handle type(H5Aget_type(attribute.get()), H5Tclose);
    const bool fits = space.valid() && type.valid() && H5Sget_simple_extent_npoints(space.get()) == 1 &&
                      H5Tget_class(type.get()) == H5T_INTEGER;
    if (!fits || H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0) {
        state_->damaged(fmt::format("read attribute '{}' as an integer", name));
    }
    return value;
}

std::string Hdf5File::read_text(const std::string& name) const {
    const LibraryCall call;
    const Handle attribute(H5Aopen(state_->file.get(), name.c_str(), H5P_DEFAULT), H5Aclose);
    if (!attribute.valid()) state_->damaged(fmt::format("open attribute '{}'", name));
    const Handle type(H5Aget_type(attribute.get()), H5Tclose);
    const bool fixed_text =
        type.valid() && H5Tget_class(type.get()) == H5T_STRING && H5Tis_variable_str(type.get()) == 0;
    std::string text(fixed_text ? H5Tget_size(type.get()) : 0, '\0');
    if (!fixed_text || H5Aread(attribute.get(), type.get(), text.data()) < 0) {
        state_->damaged(fmt::format("read attribute '{}' as text", name));
    }
    text.resize(std::strlen(text.c_str()));
    return text;
}

void Hdf5File::create_dataset(const std::string& name, Hdf5Type type) {
    const LibraryCall call;
    const hsize_t start = 0;
    const hsize_t limit = H5S_UNLIMITED;
    const auto chunk = static_cast<hsize_t>(kChunkBytes / row_of(type).bytes);
    const Handle space(H5Screate_simple(1, &start, &limit), H5Sclose);
    const Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
    const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
    const bool ready = H5Pset_chunk(layout.get(), 1, &chunk) >= 0 && H5Pset_fletcher32(layout.get()) >= 0 &&
                       H5Pset_obj_track_times(layout.get(), 0) >= 0 &&
                       H5Pset_create_intermediate_group(links.get(), 1) >= 0;
    require(ready, ErrorCode::kInternal, "HDF5 refuses the layout of dataset '{}': {}", name, failure_text());
    Handle dataset(H5Dcreate2(state_->file.get(), name.c_str(), file_type(type), space.get(), links.get(), layout.get(),
                              H5P_DEFAULT),
                   H5Dclose);
    if (!dataset.valid()) state_->write_failed(fmt::format("create dataset '{}'", name));
    state_->datasets.insert_or_assign(name, std::move(dataset));
}

bool Hdf5File::has_dataset(const std::string& name) const {
    const LibraryCall call;
    const Handle dataset(H5Dopen2(state_->file.get(), name.c_str(), H5P_DEFAULT), H5Dclose);
    return dataset.valid();
}

std::int64_t Hdf5File::length(const std::string& name) const {
    const LibraryCall call;
    const Handle space(H5Dget_space(state_->dataset(name)), H5Sclose);
    hsize_t count = 0;
    if (!space.valid() || H5Sget_simple_extent_ndims(space.get()) != 1 ||
        H5Sget_simple_extent_dims(space.get(), &count, nullptr) != 1) {
        state_->damaged(fmt::format("read the length of dataset '{}'", name));
    }
    return static_cast<std::int64_t>(count);
}

Hdf5Type Hdf5File::type(const std::string& name) const {
    const LibraryCall call;
    const Handle stored(H5Dget_type(state_->dataset(name)), H5Tclose);
    if (stored.valid()) {
        for (const TypeRow& row : kTypes) {
            if (H5Tequal(stored.get(), file_type(row.type)) > 0) return row.type;
        }
    }
    state_->damaged(fmt::format("read the element type of dataset '{}'", name));
}

void Hdf5File::append_raw(const std::string& name, Hdf5Type type_given, const void* values, std::int64_t count) {
    const LibraryCall call;
    require(type(name) == type_given, ErrorCode::kInternal, "'{}': {} values appended to dataset '{}' of {}", path(),
            name_of(type_given), name, name_of(type(name)));
    if (count == 0) return;
    const auto begin = static_cast<hsize_t>(length(name));
    const auto added = static_cast<hsize_t>(count);
    const hsize_t total = begin + added;
    const hid_t dataset = state_->dataset(name);
    if (H5Dset_extent(dataset, &total) < 0) state_->write_failed(fmt::format("extend dataset '{}'", name));
    const Handle file_space(H5Dget_space(dataset), H5Sclose);
    const Handle memory_space(H5Screate_simple(1, &added, nullptr), H5Sclose);
    if (H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, &begin, nullptr, &added, nullptr) < 0 ||
        H5Dwrite(dataset, memory_type(type_given), memory_space.get(), file_space.get(), H5P_DEFAULT, values) < 0) {
        state_->write_failed(fmt::format("append {} values to dataset '{}'", count, name));
    }
}

void Hdf5File::read_raw(const std::string& name, Hdf5Type wanted, std::int64_t begin, std::int64_t count,
                        void* values) const {
    const LibraryCall call;
    const Hdf5Type stored = type(name);
    require(stored == wanted, ErrorCode::kData, "'{}': dataset '{}' holds {} where {} is expected", path(), name,
            name_of(stored), name_of(wanted));
    const std::int64_t available = length(name);
    require(begin >= 0 && count >= 0 && begin + count <= available, ErrorCode::kData,
            "'{}': elements [{}, {}) wanted from dataset '{}', which has {}", path(), begin, begin + count, name,
            available);
    if (count == 0) return;
    const auto first = static_cast<hsize_t>(begin);
    const auto number = static_cast<hsize_t>(count);
    const hid_t dataset = state_->dataset(name);
    const Handle file_space(H5Dget_space(dataset), H5Sclose);
    const Handle memory_space(H5Screate_simple(1, &number, nullptr), H5Sclose);
    if (H5Sselect_hyperslab(file_space.get(), H5S_SELECT_SET, &first, nullptr, &number, nullptr) < 0 ||
        H5Dread(dataset, memory_type(wanted), memory_space.get(), file_space.get(), H5P_DEFAULT, values) < 0) {
        state_->damaged(fmt::format("read elements [{}, {}) of dataset '{}'", begin, begin + count, name));
    }
}

void Hdf5File::write_long_text(const std::string& name, std::string_view text) {
    create_dataset(name, Hdf5Type::kU8);
    append_raw(name, Hdf5Type::kU8, text.data(), static_cast<std::int64_t>(text.size()));
}

std::string Hdf5File::read_long_text(const std::string& name) const {
    std::string text(static_cast<std::size_t>(length(name)), '\0');
    read_raw(name, Hdf5Type::kU8, 0, static_cast<std::int64_t>(text.size()), text.data());
    return text;
}

void Hdf5File::close() {
    const LibraryCall call;
    // Told here, where the library still knows the system's reason; closing after it would give another.
    if (H5Fflush(state_->file.get(), H5F_SCOPE_GLOBAL) < 0) state_->write_failed("finish writing it");
    herr_t status = 0;
    for (auto& [name, dataset] : state_->datasets) status = std::min(status, dataset.reset());
    state_->datasets.clear();
    status = std::min(status, state_->file.reset());
    if (status < 0) state_->write_failed("finish writing it");
}

Finding examine_hdf5() {
    const LibraryCall call;
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    H5get_libversion(&major, &minor, &release);
    return compare_versions("HDF5", fmt::format("{}.{}.{}", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE),
                            fmt::format("{}.{}.{}", major, minor, release));
}

}  // namespace duologue
