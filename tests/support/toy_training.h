// A tiny task in memory and all that a Trainer needs for it: reverse a short sequence.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "duologue/core/random.h"
#include "duologue/data/batches.h"
#include "duologue/data/vocabulary.h"
#include "duologue/train/trainer.h"

namespace duologue {

inline constexpr std::int32_t kToyVocabulary = 16;

inline Vocabulary toy_vocabulary(const std::string& last_word = "z") {
    std::vector<Vocabulary::Word> words;
    for (std::int32_t i = Vocabulary::kSpecialTokens; i + 1 < kToyVocabulary; ++i) {
        words.push_back({.text = fmt::format("w{}", i), .count = 10});
    }
    words.push_back({.text = last_word, .count = 1});
    return {{}, words, 200};
}

inline BatchCapacity toy_capacity() {
    return {.source_rows = 24, .target_rows = 24, .sequences = 4, .max_source_length = 6, .max_target_length = 6};
}

inline void append_sequence(PackedTokens& packed, const std::vector<std::int32_t>& tokens) {
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        packed.tokens.push_back(tokens[i]);
        packed.positions.push_back(static_cast<std::int32_t>(i));
    }
    packed.offsets.push_back(static_cast<std::int32_t>(packed.tokens.size()));
}

/// Example `index` of an epoch, appended to `batch`.
inline void append_toy_example(Batch& batch, std::uint64_t key) {
    RandomStream random(key);
    std::vector<std::int32_t> source(2 + random.below(4));
    for (std::int32_t& token : source) token = static_cast<std::int32_t>(4 + random.below(kToyVocabulary - 4));
    std::vector<std::int32_t> target(source.rbegin(), source.rend());
    batch.labels.insert(batch.labels.end(), target.begin(), target.end());
    batch.labels.push_back(Vocabulary::kEnd);
    target.insert(target.begin(), Vocabulary::kStart);
    batch.label_count += static_cast<std::int64_t>(target.size());
    append_sequence(batch.source, source);
    append_sequence(batch.target, target);
}

/// `examples` per epoch, four to a micro-batch, in an order that depends on the epoch.
class ToyData : public TrainingData {
   public:
    explicit ToyData(std::int64_t examples) : examples_(examples) {}

    /// Called with the position of every step asked for.
    std::function<void(const DataPosition&)> on_step;

    GlobalStep step(const DataPosition& position, std::int64_t micro_batches, int rank, int ranks) override {
        if (on_step) on_step(position);
        GlobalStep result{.micro_batches = {}, .next = position, .ends_epoch = false};
        for (std::int64_t j = 0; j < micro_batches && result.next.examples < examples_; ++j) {
            Batch batch;
            for (int i = 0; i < 4 && result.next.examples < examples_; ++i, ++result.next.examples) {
                if (j % ranks != rank) continue;
                append_toy_example(batch, mix_key(static_cast<std::uint64_t>(position.epoch),
                                                  static_cast<std::uint64_t>(result.next.examples)));
            }
            result.micro_batches.push_back(std::move(batch));
        }
        if (result.next.examples == examples_) {
            result.next = {.epoch = position.epoch + 1, .examples = 0};
            result.ends_epoch = true;
        }
        return result;
    }
    [[nodiscard]] std::int64_t examples_per_epoch() const override { return examples_; }

   private:
    std::int64_t examples_;
};

inline std::vector<Batch> toy_validation() {
    std::vector<Batch> batches(3);
    for (std::size_t i = 0; i < batches.size(); ++i) {
        for (std::uint64_t j = 0; j < 4; ++j) append_toy_example(batches[i], mix_key(1000 + i, j));
    }
    return batches;
}

inline ModelConfig toy_model() {
    return {.width = 16, .heads = 2, .hidden = 32, .encoder_layers = 1, .decoder_layers = 1, .dropout = 0.1};
}

inline TrainerSettings toy_settings(const std::string& output_path) {
    return {.train = {.epochs = 2,
                      .micro_batches_per_step = 4,
                      .precision = Precision::kF32,
                      .learning_rate = 0.003,
                      .warmup_steps = 5,
                      .validation_interval_steps = 3},
            .checkpoint = {.interval_steps = 3, .keep_last = 3},
            .capacity = toy_capacity(),
            .bucket_bytes = 1024,
            .output_path = output_path,
            .config_json = R"({"train":{"epochs":2}})",
            .program_version = "test",
            .data_checksum = "toy",
            .progress = ProgressStyle::kNone};
}

/// A Trainer with everything around it.
struct ToyTraining {
    ToyTraining(std::unique_ptr<Backend> device, World& ranks, std::unique_ptr<Communicator> sums, TrainerSettings with)
        : backend(std::move(device)),
          world(ranks),
          communicator(std::move(sums)),
          settings(std::move(with)),
          model(toy_model(), kToyVocabulary, settings.train.precision, 6, 6) {}

    Trainer& trainer() {
        if (!made) {
            made = std::make_unique<Trainer>(settings, TrainerParts{.backend = *backend,
                                                                    .communicator = *communicator,
                                                                    .world = world,
                                                                    .log = log,
                                                                    .model = model,
                                                                    .data = data,
                                                                    .validation = validation,
                                                                    .vocabulary = vocabulary,
                                                                    .stop = stop});
        }
        return *made;
    }

    std::unique_ptr<Backend> backend;
    World& world;
    std::unique_ptr<Communicator> communicator;
    TrainerSettings settings;
    Transformer model;
    Log log;
    ToyData data{90};  // 5 full steps of 16 and one of 10 an epoch
    std::vector<Batch> validation = toy_validation();
    Vocabulary vocabulary = toy_vocabulary();
    StopRequest stop;
    std::unique_ptr<Trainer> made;
};

}  // namespace duologue
