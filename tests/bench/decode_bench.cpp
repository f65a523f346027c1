// The cost of one more word after a prefix: with the cache of keys and values, and by reading the prefix again.
// decode_bench [THREADS]
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <numeric>
#include <span>
#include <vector>

#include "duologue/backend/backend.h"
#include "duologue/model/transformer.h"
#include "model/head.h"
#include "model/layers.h"

namespace duologue {

namespace {

constexpr std::int64_t kVocabulary = 16000;
constexpr std::int64_t kSourceTokens = 64;
constexpr std::int64_t kLongestPrefix = 128;
constexpr std::int64_t kPrefixes[] = {16, 32, 64, 127};
constexpr int kRepetitions = 15;
constexpr std::int64_t kArenaBytes = std::int64_t{256} << 20;

/// Of the processor, so that others on the machine disturb little.
double processor_seconds() {
    timespec time{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

template <class Work>
double best_seconds(const Work& work) {
    double best = 1e30;
    for (int i = 0; i < kRepetitions; ++i) {
        const double begin = processor_seconds();
        work();
        best = std::min(best, processor_seconds() - begin);
    }
    return best;
}

PackedTokens one_sequence(std::int64_t length) {
    PackedTokens packed;
    packed.tokens.resize(static_cast<std::size_t>(length));
    packed.positions.resize(static_cast<std::size_t>(length));
    std::iota(packed.tokens.begin(), packed.tokens.end(), 4);
    std::iota(packed.positions.begin(), packed.positions.end(), 0);
    packed.offsets = {0, static_cast<std::int32_t>(length)};
    return packed;
}

/// The small model with random weights, in f32 as the chat runs it.
class Bench {
   public:
    explicit Bench(int threads)
        : backend_(make_cpu_backend(threads)),
          model_(ModelConfig{}, kVocabulary, Precision::kF32, kSourceTokens, kLongestPrefix),
          weights_memory_(backend_->allocate(model_.parameters().elements() * size_of(DataType::kF32))),
          arena_memory_(backend_->allocate(kArenaBytes)),
          arena_(arena_memory_.data(), kArenaBytes) {
        model_.prepare(*backend_);
        weights_ = make_vector(weights_memory_.data(), DataType::kF32, model_.parameters().elements());
        backend_->upload(weights_, initial_values(model_.parameters(), 1).data());
    }

    [[nodiscard]] double cached(std::int64_t prefix) {
        IncrementalDecoder decoder(model_, *backend_, weights_, kSourceTokens, kLongestPrefix);
        const PackedTokens source = one_sequence(kSourceTokens);
        double best = 1e30;
        for (int i = 0; i < kRepetitions; ++i) {
            decoder.begin(source.tokens);
            for (std::int64_t t = 0; t + 1 < prefix; ++t) (void)decoder.step(static_cast<std::int32_t>(t + 4));
            const double begin = processor_seconds();
            (void)decoder.step(4);
            best = std::min(best, processor_seconds() - begin);
        }
        return best;
    }

    /// The decoder over the whole prefix and the logits of its last row; the encoder's output is kept.
    [[nodiscard]] double recomputed(std::int64_t prefix) {
        const Arena::Scope scope(arena_);
        const BatchCapacity capacity = capacity_of(prefix);
        const DeviceBatch batch = upload_batch(*backend_, arena_, batch_of(prefix), capacity);
        const ForwardPass pass{.backend = *backend_,
                               .arena = arena_,
                               .weights = ParameterViews(model_.parameters(), weights_),
                               .mode = Mode::kEvaluate};
        const Transformer::Layers& layers = model_.layers();
        StackInput encoder;
        StackSaved encoder_saved;
        StackInput decoder{.x = {}, .offsets = batch.target.offsets, .memory = {}};
        decoder.memory = encode(pass, layers, batch.source, encoder, encoder_saved);
        const Tensor logits = arena_.allocate(DataType::kF32, 1, kVocabulary);
        return best_seconds([&] {
            const Arena::Scope step(arena_);
            StackSaved saved;
            decoder.x = embedding_forward(pass, layers.target_embedding, batch.target, layers.positions);
            const Tensor y = stack_forward(pass, layers.decoder, decoder, saved);
            head_logits(*backend_, logits, y.row_range(prefix - 1, 1), pass.weights[layers.target_embedding.table]);
        });
    }

    /// Encoder, decoder and the logits of every row, as the model computes them outside of decoding.
    [[nodiscard]] double everything(std::int64_t prefix) {
        const Arena::Scope scope(arena_);
        const DeviceBatch batch = upload_batch(*backend_, arena_, batch_of(prefix), capacity_of(prefix));
        const Tensor logits = arena_.allocate(DataType::kF32, prefix, kVocabulary);
        return best_seconds([&] { model_.logits(*backend_, arena_, batch, weights_, logits); });
    }

   private:
    static Batch batch_of(std::int64_t prefix) {
        const PackedTokens target = one_sequence(prefix);
        return {
            .source = one_sequence(kSourceTokens), .target = target, .labels = target.tokens, .label_count = prefix};
    }
    static BatchCapacity capacity_of(std::int64_t prefix) {
        return {.source_rows = kSourceTokens,
                .target_rows = prefix,
                .sequences = 1,
                .max_source_length = kSourceTokens,
                .max_target_length = prefix};
    }

    std::unique_ptr<Backend> backend_;
    Transformer model_;
    DeviceBuffer weights_memory_;
    DeviceBuffer arena_memory_;
    Tensor weights_;
    Arena arena_;
};

void run(int threads) {
    Bench bench(threads);
    fmt::print("processor microseconds for one word after a prefix, {} thread{}\n", threads, threads == 1 ? "" : "s");
    fmt::print("prefix    cached  prefix again  ratio   all again  ratio\n");
    for (const std::int64_t prefix : kPrefixes) {
        const double cached = bench.cached(prefix);
        const double again = bench.recomputed(prefix);
        const double everything = bench.everything(prefix);
        fmt::print("{:6} {:9.0f} {:13.0f} {:6.1f} {:11.0f} {:6.1f}\n", prefix, 1e6 * cached, 1e6 * again,
                   again / cached, 1e6 * everything, everything / cached);
    }
}

}  // namespace

}  // namespace duologue

int main(int argument_count, char** arguments) {
    duologue::run(argument_count > 1 ? std::atoi(arguments[1]) : 1);
    return 0;
}
