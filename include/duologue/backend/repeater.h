// Repeater: work that is queued on a back end again and again, the same but for what lies in memory.
#pragma once

#include <array>
#include <cstdint>
#include <functional>

namespace duologue {

class Repeater {
   public:
    /// Tells works apart. Equal keys promise the same operations on the same memory.
    using Key = std::array<std::int64_t, 4>;
    using Work = std::function<void()>;

    Repeater() = default;
    virtual ~Repeater() = default;
    Repeater(const Repeater&) = delete;
    Repeater& operator=(const Repeater&) = delete;
    Repeater(Repeater&&) = delete;
    Repeater& operator=(Repeater&&) = delete;

    /// Queues what `work` queues: by calling it, or by queuing again what it queued for this key before. So `work` only
    /// computes: what depends on more than the key and on memory (uploads, the random key), what waits (downloads) and
    /// what allocates comes before or after; what the host has to do in the middle goes through between().
    virtual void run(const Key& key, const Work& work) = 0;

    /// Called by `work`: at this place of it `call` runs on the host, whenever the work is queued. It is kept, and
    /// what it refers to outlives the repeater or its last run().
    virtual void between(const Work& call) = 0;
};

/// Calls `work` each time: for devices that are told everything anew.
class PlainRepeater final : public Repeater {
   public:
    void run(const Key& /*key*/, const Work& work) override { work(); }
    void between(const Work& call) override { call(); }
};

}  // namespace duologue
