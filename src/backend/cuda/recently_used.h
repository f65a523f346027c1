// RecentlyUsed: the values of the keys that were asked for last, as many as there is room for.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <utility>

namespace duologue::cuda {

template <class Key, class Value>
class RecentlyUsed {
   public:
    /// Holds at most `most` values, at least 1.
    explicit RecentlyUsed(std::size_t most) : most_(most) {}

    /// Null where the key has no value (any more). The value is valid until the next insert().
    [[nodiscard]] Value* find(const Key& key) {
        const auto found = places_.find(key);
        if (found == places_.end()) return nullptr;
        values_.splice(values_.begin(), values_, found->second);
        return &values_.front().second;
    }

    /// The key has no value yet. The value that was not asked for longest makes room.
    Value& insert(const Key& key, Value value) {
        if (values_.size() == most_) {
            places_.erase(values_.back().first);
            values_.pop_back();
        }
        values_.emplace_front(key, std::move(value));
        places_[key] = values_.begin();
        return values_.front().second;
    }

    [[nodiscard]] std::size_t size() const { return values_.size(); }

   private:
    std::size_t most_;
    std::list<std::pair<Key, Value>> values_;  // the last one asked for first
    std::map<Key, typename std::list<std::pair<Key, Value>>::iterator> places_;
};

}  // namespace duologue::cuda
