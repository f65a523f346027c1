// On a GPU: micro-batches that are captured into graphs and launched again compute what they compute when every kernel
// is launched by itself, for new tokens and new dropout too.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "duologue/backend/cuda_backend.h"
#include "duologue/core/random.h"
#include "duologue/train/micro_batch.h"
#include "support/model_run.h"

namespace duologue {
namespace {

constexpr std::int64_t kVocabulary = 200;
constexpr int kRuns = 5;

const ModelConfig kModel{
    .width = 64, .heads = 2, .hidden = 128, .encoder_layers = 2, .decoder_layers = 2, .dropout = 0.1};

struct Case {
    AttentionChoice attention = AttentionChoice::kOwn;
    Precision precision = Precision::kF32;
};

// Batches whose tiled form is of one size.
Batch batch_of(int run) {
    return random_batch(
        {.sequences = 20, .max_length = 4, .vocabulary = kVocabulary, .seed = static_cast<std::uint64_t>(run + 1)});
}

// A model with its memory, fed as the trainer does it.
class Training {
   public:
    Training(const Case& at, Graphs graphs)
        : backend_(
              make_cuda_backend({.attention = at.attention, .deterministic = Deterministic::kYes, .graphs = graphs})),
          repeater_(backend_->make_repeater()),
          model_(kModel, kVocabulary, at.precision, kCapacity.max_source_length, kCapacity.max_target_length),
          plan_(plan_training(
              *backend_,
              {.model = kModel, .vocabulary_size = kVocabulary, .precision = at.precision, .capacity = kCapacity})),
          weights_(backend_->allocate(plan_.elements * size_of(model_.activation_type()))),
          sums_(backend_->allocate((plan_.elements + 1) * size_of(DataType::kF32))),
          batch_(backend_->allocate(plan_.batch_bytes)),
          arena_memory_(backend_->allocate(plan_.arena_bytes)),
          arena_(arena_memory_.data(), arena_memory_.bytes()) {
        model_.prepare(*backend_);
        const std::vector<float> values = initial_values(model_.parameters(), 3);
        backend_->upload(gradients(), values.data());
        backend_->cast(weights(), gradients());
    }

    /// Gradients, and behind them the loss, of a batch of its own.
    std::vector<float> run(int run) {
        backend_->zero(all_sums());
        Arena memory(batch_.data(), batch_.bytes());
        const DeviceBatch batch = upload_batch(*backend_, memory, batch_of(run), kCapacity);
        backend_->set_random_key(mix_key(77, static_cast<std::uint64_t>(run)));
        const MicroBatchWork work{.model = model_,
                                  .weights = weights(),
                                  .gradients = gradients(),
                                  .loss_sum = all_sums().column_range(plan_.elements, 1),
                                  .smoothing = 0.1F};
        repeater_->run({batch.source.tokens.columns, batch.labels.columns, batch.target.offsets.sequences}, [&] {
            ++calls_;
            run_micro_batch(*backend_, arena_, batch, work, [this](std::int64_t /*begin*/, std::int64_t /*end*/) {
                repeater_->between([this] { ++host_calls_; });
            });
        });
        std::vector<float> sums(static_cast<std::size_t>(plan_.elements + 1));
        backend_->download(sums.data(), all_sums());
        return sums;
    }
    [[nodiscard]] int calls() const { return calls_; }
    [[nodiscard]] int host_calls() const { return host_calls_; }

   private:
    static constexpr BatchCapacity kCapacity{
        .source_rows = 100, .target_rows = 100, .sequences = 30, .max_source_length = 16, .max_target_length = 16};

    [[nodiscard]] Tensor weights() const {
        return make_vector(weights_.data(), model_.activation_type(), plan_.elements);
    }
    [[nodiscard]] Tensor all_sums() const { return make_vector(sums_.data(), DataType::kF32, plan_.elements + 1); }
    [[nodiscard]] Tensor gradients() const { return all_sums().column_range(0, plan_.elements); }

    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Repeater> repeater_;
    Transformer model_;
    TrainingPlan plan_;
    DeviceBuffer weights_;
    DeviceBuffer sums_;
    DeviceBuffer batch_;
    DeviceBuffer arena_memory_;
    Arena arena_;
    int calls_ = 0;
    int host_calls_ = 0;
};

class CudaGraphs : public testing::TestWithParam<Case> {};

TEST_P(CudaGraphs, GiveTheVeryGradientsOfKernelsThatAreLaunchedOneByOne) {
    Training by_graphs(GetParam(), Graphs::kYes);
    Training one_by_one(GetParam(), Graphs::kNo);
    std::vector<float> last;
    for (int run = 0; run < kRuns; ++run) {
        SCOPED_TRACE(run);
        const std::vector<float> gradients = by_graphs.run(run);
        EXPECT_EQ(gradients, one_by_one.run(run));
        EXPECT_NE(gradients, last) << "another batch, other dropout";
        last = gradients;
    }
    EXPECT_EQ(by_graphs.calls(), 2) << "once to prepare, once to capture";
    EXPECT_EQ(one_by_one.calls(), kRuns);
    EXPECT_GT(by_graphs.host_calls(), 0);
    EXPECT_EQ(by_graphs.host_calls(), one_by_one.host_calls());
}

INSTANTIATE_TEST_SUITE_P(Cases, CudaGraphs,
                         testing::Values(Case{AttentionChoice::kOwn, Precision::kF32},
                                         Case{AttentionChoice::kOwn, Precision::kBf16},
                                         Case{AttentionChoice::kCudnn, Precision::kBf16}));

}  // namespace
}  // namespace duologue
