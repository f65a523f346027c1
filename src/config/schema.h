// Schema: every option once, with its key, member, range and purpose. Parsing, printing, help and checks read this
// list.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "duologue/config/choices.h"
#include "duologue/config/config.h"
#include "duologue/config/range.h"

namespace duologue {

struct Option {
    OptionHelp help;
    std::function<bool(Config&, const nlohmann::json&)> set;  ///< false: not what was expected, nothing is changed
    std::function<nlohmann::json(const Config&)> get;
};

/// A number: an integer member takes only whole numbers.
template <class Section, class Number>
Option option(const std::string& key, Section Config::*section, Number Section::*member, Range range,
              const std::string& text) {
    const auto set = [=](Config& config, const nlohmann::json& value) {
        if (!value.is_number()) return false;
        const auto real = value.get<double>();
        if (!range.holds(real)) return false;
        if constexpr (std::is_integral_v<Number>) {
            // A whole number written as 1e6 is meant as an integer; above 2^53 it would not be the one written.
            if (value.is_number_float() && (real != std::floor(real) || real > 0x1p53)) return false;
            if (real > static_cast<double>(std::numeric_limits<Number>::max())) return false;
        }
        (config.*section).*member = value.get<Number>();
        return true;
    };
    const auto get = [=](const Config& config) { return nlohmann::json((config.*section).*member); };
    constexpr bool kWhole = std::is_integral_v<Number>;
    return {{.key = key,
             .type = kWhole ? "INTEGER" : "NUMBER",
             .range = to_text(range),
             .expected = describe(kWhole ? "an integer" : "a number", range),
             .text = text},
            set,
            get};
}

/// A text; `type` says of what: "FILE" or "DIR".
template <class Section>
Option option(const std::string& key, Section Config::*section, std::string Section::*member, const std::string& type,
              const std::string& text) {
    const auto set = [=](Config& config, const nlohmann::json& value) {
        if (!value.is_string()) return false;
        (config.*section).*member = value.get<std::string>();
        return true;
    };
    const auto get = [=](const Config& config) { return nlohmann::json((config.*section).*member); };
    return {{.key = key, .type = type, .expected = "a text", .text = text}, set, get};
}

/// Yes or no.
template <class Section>
Option option(const std::string& key, Section Config::*section, bool Section::*member, const std::string& text) {
    const auto set = [=](Config& config, const nlohmann::json& value) {
        if (!value.is_boolean()) return false;
        (config.*section).*member = value.get<bool>();
        return true;
    };
    const auto get = [=](const Config& config) { return nlohmann::json((config.*section).*member); };
    return {{.key = key, .type = "true|false", .expected = "true or false", .text = text}, set, get};
}

/// One of some names.
template <class Section, class Enum>
Option option(const std::string& key, Section Config::*section, Enum Section::*member, const Choices<Enum>& choices,
              const std::string& text) {
    const auto set = [=](Config& config, const nlohmann::json& value) {
        for (const auto& [name, meaning] : choices) {
            if (value != name) continue;
            (config.*section).*member = meaning;
            return true;
        }
        return false;
    };
    const auto get = [=](const Config& config) {
        for (const auto& [name, meaning] : choices) {
            if ((config.*section).*member == meaning) return nlohmann::json(name);
        }
        return nlohmann::json();
    };
    return {
        {.key = key, .type = names_of(choices, "|"), .expected = names_of(choices, " or "), .text = text}, set, get};
}

/// Every option, in the order in which it is printed.
[[nodiscard]] std::vector<Option> all_options();

}  // namespace duologue
