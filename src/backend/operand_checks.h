// OperandChecks: what every operation demands of its tensors, said in one voice: operation, tensor, both values.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>

#include "duologue/backend/backend.h"
#include "duologue/core/error.h"
#include "duologue/core/tensor.h"

namespace duologue {

enum class RowLayout : std::uint8_t { kContiguous, kMayBeStrided };

/// A tensor and what the operation calls it.
struct Operand {
    std::string_view name;
    const Tensor& tensor;
};

/// Whether two views share an element. Exact for strided views: column slices of one matrix do not overlap.
[[nodiscard]] bool overlap(const Tensor& a, const Tensor& b);

/// The checks of one call. All of them throw kInternal.
class OperandChecks {
   public:
    OperandChecks(std::string_view operation, Addresses addresses) : operation_(operation), addresses_(addresses) {}

    void present(const Operand& operand) const;
    void absent(const Operand& operand) const;
    /// Present and f32 or bf16.
    void activation(const Operand& operand) const;
    /// Present and exactly this.
    void matrix(const Operand& operand, DataType type, std::int64_t rows, std::int64_t columns,
                RowLayout layout = RowLayout::kContiguous) const;
    void vector(const Operand& operand, DataType type, std::int64_t length) const;
    /// Present, u8, contiguous and at least this long; may be absent when nothing is needed.
    void workspace(const Operand& operand, std::int64_t bytes) const;
    /// `output` shares no element with any of `others`; absent ones share nothing.
    void separate(const Operand& output, std::initializer_list<Operand> others) const;
    /// As `separate`, but `output` may be exactly the same view as an other.
    void separate_or_same(const Operand& output, std::initializer_list<Operand> others) const;
    /// Dropout can only be asked for with a probability that leaves something.
    void probability(float value) const;

    template <class... Args>
    void that(bool condition, fmt::format_string<Args...> format, Args&&... args) const {
        if (!condition) violated(fmt::format(format, std::forward<Args>(args)...));
    }

   private:
    [[noreturn]] void violated(const std::string& what) const;

    std::string_view operation_;
    Addresses addresses_;
};

}  // namespace duologue
