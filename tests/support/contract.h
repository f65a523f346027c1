// ContractRun: one operation run on the reference back end and, three times, on the back end under test.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/core/random.h"
#include "support/compare.h"
#include "support/host_matrix.h"

namespace duologue {

/// A back end under test and the activation type that it is tested with.
struct ContractCase {
    std::string name;
    std::function<std::unique_ptr<Backend>(int threads)> make;
    DataType type = DataType::kF32;
    std::int64_t head_multiple = 1;  ///< attention's heads have so many columns, or a multiple
};

void PrintTo(const ContractCase& contract_case, std::ostream* stream);  // what GoogleTest calls the parameter

/// Every back end that is built here, with f32 and with bf16.
[[nodiscard]] std::vector<ContractCase> contract_cases();
[[nodiscard]] std::string case_name(const testing::TestParamInfo<ContractCase>& info);

/// The reference and two instances of the back end under test, which differ in their number of threads.
struct ContractBackends {
    explicit ContractBackends(const ContractCase& contract_case);
    std::unique_ptr<Backend> reference;
    std::unique_ptr<Backend> several_threads;
    std::unique_ptr<Backend> one_thread;
};

/// How the elements of an operand lie in memory: one row after the other, or as a slice of the columns of a wider
/// matrix, where rows begin anywhere or at multiples of 16 bytes (as far as the wider matrix's columns do).
enum class Layout : std::uint8_t { kPacked, kStrided, kAlignedSlice };

/// A handle of an operand that exists in every place of a ContractRun. Default-constructed: absent everywhere.
class ContractOperand {
   public:
    ContractOperand() = default;

   private:
    friend class ContractRun;
    friend class ContractPlace;
    explicit ContractOperand(std::size_t index) : index_(index) {}
    static constexpr std::size_t kAbsent = ~std::size_t{0};
    std::size_t index_ = kAbsent;
};

/// One back end and its copy of every operand.
class ContractPlace {
   public:
    [[nodiscard]] Tensor operator()(const ContractOperand& operand) const {
        return operand.index_ == ContractOperand::kAbsent ? Tensor{} : slots_[operand.index_].view;
    }

   private:
    friend class ContractRun;
    enum class Role : std::uint8_t { kInput, kOutput, kWorkspace };
    struct Slot {
        Role role = Role::kInput;
        std::vector<std::byte> before;  // all of the memory as it was before the run, canaries included
        DeviceBuffer buffer;
        Tensor view;  // of the elements, in device memory
    };

    ContractPlace(std::string name, Backend& backend) : name_(std::move(name)), backend_(&backend) {}
    void add(Role role, DataType type, const HostMatrix& values, Layout layout);
    [[nodiscard]] std::vector<std::byte> memory(const Slot& slot) const;
    [[nodiscard]] HostMatrix values(const ContractOperand& operand) const;
    [[nodiscard]] HostMatrix values_before(const ContractOperand& operand) const;
    void expect_only_outputs_changed() const;
    void expect_equal_bits(const ContractPlace& other) const;

    std::string name_;
    Backend* backend_;
    std::vector<Slot> slots_;
};

/// Holds the operands of one call, each between canaries. Outputs begin as NaN. run() performs the call in four places:
/// on the reference, twice on the back end under test, and on it with another number of threads; it checks that the
/// canaries and all inputs are untouched and that the three runs of the back end under test agree in every bit.
class ContractRun {
   public:
    using Call = std::function<void(Backend& backend, const ContractPlace& at)>;

    explicit ContractRun(const ContractBackends& backends, std::uint64_t random_key = 42);

    ContractOperand input(DataType type, const HostMatrix& values, Layout layout = Layout::kPacked);
    ContractOperand output(DataType type, std::int64_t rows, std::int64_t columns, Layout layout = Layout::kPacked);
    ContractOperand input_output(DataType type, const HostMatrix& values, Layout layout = Layout::kPacked);
    /// Opaque bytes, whose number each back end tells itself; they begin as 0xff and are compared with nothing.
    ContractOperand workspace(const std::function<std::int64_t(const Backend&)>& bytes);

    void run(const Call& call);

    [[nodiscard]] HostMatrix before(const ContractOperand& operand) const;  ///< what an input held
    [[nodiscard]] HostMatrix got(const ContractOperand& operand) const;     ///< from the back end under test
    [[nodiscard]] HostMatrix wanted(const ContractOperand& operand) const;  ///< from the reference
    [[nodiscard]] testing::AssertionResult matches(const ContractOperand& operand, const Tolerance& tolerance) const;
    [[nodiscard]] testing::AssertionResult matches(const ContractOperand& operand, const HostMatrix& magnitudes,
                                                   const Tolerance& tolerance) const;
    [[nodiscard]] testing::AssertionResult matches_exactly(const ContractOperand& operand) const;

   private:
    ContractOperand add(ContractPlace::Role role, DataType type, const HostMatrix& values, Layout layout);

    std::vector<ContractPlace> places_;
};

/// A parameterised suite over ContractCase.
class ContractTest : public testing::TestWithParam<ContractCase> {
   protected:
    [[nodiscard]] DataType type() const { return GetParam().type; }
    [[nodiscard]] const ContractBackends& backends() const { return backends_; }
    [[nodiscard]] RandomStream& random() { return random_; }

    /// Standard normal values, times `spread`.
    [[nodiscard]] HostMatrix normal(std::int64_t rows, std::int64_t columns, double spread = 1.0);
    /// Multiples of 1/8 in [-2, 2] without 0: exact in bf16, and their products have exact f32 sums in any order.
    [[nodiscard]] HostMatrix grid(std::int64_t rows, std::int64_t columns);
    /// A size in [1, most]; small ones are as frequent as large ones.
    [[nodiscard]] std::int64_t random_size(std::int64_t most);
    /// Integers in [0, bound), as one row.
    [[nodiscard]] HostMatrix indices(std::int64_t length, std::int64_t bound);

   private:
    ContractBackends backends_{GetParam()};
    RandomStream random_{7};
};

/// The values as `type` holds them.
[[nodiscard]] HostMatrix rounded(const HostMatrix& values, DataType type);
[[nodiscard]] HostMatrix filled(std::int64_t rows, std::int64_t columns, double value);

}  // namespace duologue
