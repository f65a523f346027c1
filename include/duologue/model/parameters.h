// Parameters: one table of named matrices over flat buffers that share their offsets.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/core/tensor.h"

namespace duologue {

/// How a parameter begins.
enum class Initializer : std::uint8_t { kZero, kOne, kXavierUniform, kNormal };

struct ParameterEntry {
    std::string name;  ///< for example "encoder.layers.0.self_attention.qkv.weight"
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t offset = 0;  ///< elements from the start of every flat buffer; a multiple of kParameterAlignment
    Initializer initializer = Initializer::kZero;
    double spread = 0.0;  ///< kNormal: standard deviation; kXavierUniform: fan_in + fan_out
};

inline constexpr std::int64_t kParameterAlignment = 64;  // elements

/// The entries stand in the order in which the backward pass finishes their gradients.
class ParameterTable {
   public:
    /// Appends an entry and returns its index.
    std::size_t add(std::string name, std::int64_t rows, std::int64_t columns, Initializer initializer, double spread);
    [[nodiscard]] const std::vector<ParameterEntry>& entries() const { return entries_; }
    [[nodiscard]] std::int64_t parameters() const { return parameters_; }  ///< without the gaps
    [[nodiscard]] std::int64_t elements() const {
        return elements_;
    }  ///< of a flat buffer, gaps included (they stay 0)
    /// The view of entry `index` in a flat buffer.
    [[nodiscard]] Tensor view(const Tensor& flat, std::size_t index) const;

   private:
    std::vector<ParameterEntry> entries_;
    std::int64_t parameters_ = 0;
    std::int64_t elements_ = 0;
};

/// The initial f32 values [elements()], a pure function of table and seed.
[[nodiscard]] std::vector<float> initial_values(const ParameterTable& table, std::uint64_t seed);

}  // namespace duologue
