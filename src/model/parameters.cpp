// The parameter table and the initial values.
#include "duologue/model/parameters.h"

#include <cmath>
#include <utility>

#include "duologue/core/error.h"
#include "duologue/core/random.h"
#include "duologue/core/rounding.h"

namespace duologue {
namespace {

/// FNV-1a (Fowler, Noll and Vo): a parameter's random numbers depend on its name, not on its place in the table.
std::uint64_t name_key(std::string_view name) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return hash;
}

void fill(const ParameterEntry& entry, std::uint64_t seed, float* values) {
    RandomStream stream(mix_key(seed, name_key(entry.name)));
    for (std::int64_t i = 0; i < entry.rows * entry.columns; ++i) {
        switch (entry.initializer) {
            case Initializer::kZero:
                values[i] = 0.0F;
                break;
            case Initializer::kOne:
                values[i] = 1.0F;
                break;
            case Initializer::kXavierUniform:
                // Glorot and Bengio 2010, eq. 16.
                values[i] = static_cast<float>(std::sqrt(6.0 / entry.spread) * (2.0 * stream.uniform() - 1.0));
                break;
            case Initializer::kNormal:
                values[i] = static_cast<float>(entry.spread * stream.normal());
                break;
        }
    }
}

}  // namespace

std::size_t ParameterTable::add(std::string name, std::int64_t rows, std::int64_t columns, Initializer initializer,
                                double spread) {
    require(rows > 0 && columns > 0, ErrorCode::kInternal, "parameter {} of {} x {}", name, rows, columns);
    entries_.push_back({.name = std::move(name),
                        .rows = rows,
                        .columns = columns,
                        .offset = elements_,
                        .initializer = initializer,
                        .spread = spread});
    parameters_ += rows * columns;
    elements_ += rounded_up(rows * columns, kParameterAlignment);
    return entries_.size() - 1;
}

Tensor ParameterTable::view(const Tensor& flat, std::size_t index) const {
    require(flat.rows == 1 && flat.columns == elements_, ErrorCode::kInternal,
            "a flat buffer of {} x {} for a table of {} elements", flat.rows, flat.columns, elements_);
    const ParameterEntry& entry = entries_.at(index);
    return flat.column_range(entry.offset, entry.rows * entry.columns).reshaped(entry.rows, entry.columns);
}

std::vector<float> initial_values(const ParameterTable& table, std::uint64_t seed) {
    std::vector<float> values(static_cast<std::size_t>(table.elements()), 0.0F);
    for (const ParameterEntry& entry : table.entries()) fill(entry, seed, values.data() + entry.offset);
    return values;
}

}  // namespace duologue
