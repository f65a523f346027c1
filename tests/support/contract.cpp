// ContractRun: operands between canaries, four runs of one call, and what is checked after every one.
#include "support/contract.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "support/reference_backend.h"

namespace duologue {

namespace {

constexpr std::int64_t kGuardBytes = 256;  // as large as the alignment, so that packed operands are aligned
constexpr std::byte kCanary{0xc5};
constexpr std::byte kPoison{0xff};  // NaN as f32 and as bf16, -1 as i32
// A strided operand is a slice of columns in the middle of a wider matrix.
struct Surroundings {
    std::int64_t columns_before = 0;
    std::int64_t columns_after = 0;
};

Surroundings surroundings_of(Layout layout) {
    switch (layout) {
        case Layout::kPacked:
            return {};
        case Layout::kStrided:
            return {.columns_before = 3, .columns_after = 5};
        case Layout::kAlignedSlice:
            return {.columns_before = 8, .columns_after = 16};
    }
    fail(ErrorCode::kInternal, "unknown layout {}", static_cast<int>(layout));
}

std::int64_t row_stride(const HostMatrix& values, Layout layout) {
    const Surroundings beside = surroundings_of(layout);
    return beside.columns_before + values.columns() + beside.columns_after;
}

std::size_t memory_bytes(DataType type, const HostMatrix& values, Layout layout) {
    return static_cast<std::size_t>(2 * kGuardBytes + values.rows() * row_stride(values, layout) * size_of(type));
}

Tensor view_of(std::byte* memory, DataType type, const HostMatrix& values, Layout layout) {
    const Tensor whole = make_tensor(memory + kGuardBytes, type, values.rows(), row_stride(values, layout));
    return layout == Layout::kPacked ? whole
                                     : whole.column_range(surroundings_of(layout).columns_before, values.columns());
}

// The same view in another copy of the memory.
Tensor moved(Tensor view, const void* from, void* to) {
    view.data =
        static_cast<std::byte*>(to) + (static_cast<std::byte*>(view.data) - static_cast<const std::byte*>(from));
    return view;
}

void poison(const Tensor& view) {
    for (std::int64_t r = 0; r < view.rows; ++r) {
        std::fill_n(view.row_range(r, 1).as<std::byte>(), view.columns * size_of(view.type), kPoison);
    }
}

void store_any(const Tensor& view, const HostMatrix& values) {
    if (view.type != DataType::kI32) return store(view, values);
    for (std::int64_t i = 0; i < values.elements(); ++i) {
        view.as<std::int32_t>()[i] = static_cast<std::int32_t>(values[i]);
    }
}

// The view's elements overwritten, so that only what surrounds them can still differ.
std::vector<std::byte> surroundings(std::vector<std::byte> memory, const Tensor& view, const void* base) {
    poison(moved(view, base, memory.data()));
    return memory;
}

}  // namespace

ContractBackends::ContractBackends(const ContractCase& contract_case)
    : reference(make_reference_backend()), several_threads(contract_case.make(3)), one_thread(contract_case.make(1)) {}

void ContractPlace::add(Role role, DataType type, const HostMatrix& values, Layout layout) {
    Slot slot;
    slot.role = role;
    slot.before.assign(memory_bytes(type, values, layout), kCanary);
    const Tensor host = view_of(slot.before.data(), type, values, layout);
    poison(host);
    if (type != DataType::kU8) store_any(host, values);
    const auto bytes = static_cast<std::int64_t>(slot.before.size());
    slot.buffer = backend_->allocate(bytes);
    slot.view = moved(host, slot.before.data(), slot.buffer.data());
    backend_->upload(make_vector(slot.buffer.data(), DataType::kU8, bytes), slot.before.data());
    slots_.push_back(std::move(slot));
}

std::vector<std::byte> ContractPlace::memory(const Slot& slot) const {
    std::vector<std::byte> bytes(slot.before.size());
    backend_->download(bytes.data(), make_vector(slot.buffer.data(), DataType::kU8, slot.buffer.bytes()));
    return bytes;
}

HostMatrix ContractPlace::values(const ContractOperand& operand) const {
    const Slot& slot = slots_.at(operand.index_);
    std::vector<std::byte> bytes = memory(slot);
    return load(moved(slot.view, slot.buffer.data(), bytes.data()));
}

HostMatrix ContractPlace::values_before(const ContractOperand& operand) const {
    const Slot& slot = slots_.at(operand.index_);
    std::vector<std::byte> bytes = slot.before;
    return load(moved(slot.view, slot.buffer.data(), bytes.data()));
}

void ContractPlace::expect_only_outputs_changed() const {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        const Slot& slot = slots_[i];
        const void* base = slot.buffer.data();
        const std::vector<std::byte> after = memory(slot);
        EXPECT_TRUE(slot.role != Role::kInput || after == slot.before) << name_ << " changed input " << i;
        EXPECT_TRUE(surroundings(after, slot.view, base) == surroundings(slot.before, slot.view, base))
            << name_ << " wrote beside operand " << i;
    }
}

void ContractPlace::expect_equal_bits(const ContractPlace& other) const {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        if (slots_[i].role == Role::kWorkspace) continue;
        EXPECT_TRUE(memory(slots_[i]) == other.memory(other.slots_[i]))
            << "operand " << i << " differs in bits between " << name_ << " and " << other.name_;
    }
}

ContractRun::ContractRun(const ContractBackends& backends, std::uint64_t random_key) {
    places_.push_back(ContractPlace("the reference", *backends.reference));
    places_.push_back(ContractPlace("the first run", *backends.several_threads));
    places_.push_back(ContractPlace("the second run", *backends.several_threads));
    places_.push_back(ContractPlace("the run with one thread", *backends.one_thread));
    for (const ContractPlace& place : places_) place.backend_->set_random_key(random_key);
}

ContractOperand ContractRun::add(ContractPlace::Role role, DataType type, const HostMatrix& values, Layout layout) {
    for (ContractPlace& place : places_) place.add(role, type, values, layout);
    return ContractOperand(places_[0].slots_.size() - 1);
}

ContractOperand ContractRun::input(DataType type, const HostMatrix& values, Layout layout) {
    return add(ContractPlace::Role::kInput, type, values, layout);
}

ContractOperand ContractRun::output(DataType type, std::int64_t rows, std::int64_t columns, Layout layout) {
    return add(ContractPlace::Role::kOutput, type, filled(rows, columns, std::numeric_limits<double>::quiet_NaN()),
               layout);
}

ContractOperand ContractRun::input_output(DataType type, const HostMatrix& values, Layout layout) {
    return add(ContractPlace::Role::kOutput, type, values, layout);
}

ContractOperand ContractRun::workspace(const std::function<std::int64_t(const Backend&)>& bytes) {
    for (ContractPlace& place : places_) {
        const HostMatrix shape(1, bytes(*place.backend_));
        place.add(ContractPlace::Role::kWorkspace, DataType::kU8, shape, Layout::kPacked);
    }
    return ContractOperand(places_[0].slots_.size() - 1);
}

void ContractRun::run(const Call& call) {
    for (const ContractPlace& place : places_) {
        call(*place.backend_, place);
        place.backend_->synchronize();
        place.expect_only_outputs_changed();
    }
    places_[1].expect_equal_bits(places_[2]);
    places_[1].expect_equal_bits(places_[3]);
}

HostMatrix ContractRun::before(const ContractOperand& operand) const { return places_[0].values_before(operand); }

HostMatrix ContractRun::wanted(const ContractOperand& operand) const { return places_[0].values(operand); }

HostMatrix ContractRun::got(const ContractOperand& operand) const { return places_[1].values(operand); }

testing::AssertionResult ContractRun::matches(const ContractOperand& operand, const Tolerance& tolerance) const {
    return close(got(operand), wanted(operand), tolerance);
}

testing::AssertionResult ContractRun::matches(const ContractOperand& operand, const HostMatrix& magnitudes,
                                              const Tolerance& tolerance) const {
    return close(got(operand), wanted(operand), magnitudes, tolerance);
}

testing::AssertionResult ContractRun::matches_exactly(const ContractOperand& operand) const {
    return same(got(operand), wanted(operand));
}

HostMatrix ContractTest::normal(std::int64_t rows, std::int64_t columns, double spread) {
    HostMatrix values(rows, columns);
    for (std::int64_t i = 0; i < values.elements(); ++i) values[i] = spread * random_.normal();
    return values;
}

HostMatrix ContractTest::grid(std::int64_t rows, std::int64_t columns) {
    HostMatrix values(rows, columns);
    for (std::int64_t i = 0; i < values.elements(); ++i) {
        const double magnitude = static_cast<double>(1 + random_.below(16)) / 8.0;
        values[i] = random_.below(2) == 0 ? magnitude : -magnitude;
    }
    return values;
}

std::int64_t ContractTest::random_size(std::int64_t most) {
    const double size = std::exp(random_.uniform() * std::log(static_cast<double>(most) + 1.0));
    return std::clamp(static_cast<std::int64_t>(size), std::int64_t{1}, most);
}

HostMatrix ContractTest::indices(std::int64_t length, std::int64_t bound) {
    HostMatrix values(1, length);
    for (std::int64_t i = 0; i < length; ++i) {
        values[i] = static_cast<double>(random_.below(static_cast<std::uint64_t>(bound)));
    }
    return values;
}

HostMatrix rounded(const HostMatrix& values, DataType type) {
    HostMatrix result = values;
    for (std::int64_t i = 0; i < values.elements(); ++i) {
        const auto narrow = static_cast<float>(values[i]);
        result[i] = type == DataType::kBf16 ? static_cast<float>(Bfloat16(narrow)) : narrow;
    }
    return result;
}

HostMatrix filled(std::int64_t rows, std::int64_t columns, double value) {
    HostMatrix result(rows, columns);
    for (std::int64_t i = 0; i < result.elements(); ++i) result[i] = value;
    return result;
}

std::string case_name(const testing::TestParamInfo<ContractCase>& info) {
    return info.param.name + "_" + std::string(name_of(info.param.type));
}

void PrintTo(const ContractCase& contract_case, std::ostream* stream) {
    *stream << contract_case.name << " with " << name_of(contract_case.type);
}

}  // namespace duologue
