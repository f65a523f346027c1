// Reports: lines and tables that people read, JSON that programs read.
#include "duologue/core/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace duologue {
namespace {

std::string text_of(const Report& report) { return render(report, ReportStyle::kText); }

TEST(ReportText, AlignsValuesAndReadsNames) {
    EXPECT_EQ(text_of({{"kind", "shard"}, {"vocabulary_size", 203}, {"valid", true}, {"loss", nullptr}}),
              "kind             shard\nvocabulary size  203\nvalid            yes\nloss             -\n");
}

TEST(ReportText, ShowsSizesInUnits) {
    EXPECT_EQ(text_of({{"bytes", 512}, {"weights_bytes", 3 << 20}}), "bytes    512 bytes\nweights  3.0 MiB\n");
}

TEST(ReportText, ShowsSharesInPercent) { EXPECT_EQ(text_of({{"share", 0.98765}}), "share  98.8 %\n"); }

TEST(ReportText, ShowsFloatingPointOperationsInUnits) {
    EXPECT_EQ(text_of({{"matmul_flops", 1.25e12}}), "matmul flops  1.25 TFLOP\n");
}

TEST(ReportText, PutsTreesBelowTheirName) {
    EXPECT_EQ(text_of({{"step", 3}, {"model", {{"width", 8}}}}), "step  3\nmodel\n  width  8\n");
}

TEST(ReportText, MakesATableOfEqualTrees) {
    Report rows = Report::array();
    rows.push_back({{"file", "a"}, {"turns", 5}});
    rows.push_back({{"file", "b\u00e9"}, {"turns", 1234}});
    EXPECT_EQ(text_of({{"shards", rows}}), "shards\n  file  turns\n  a         5\n  b\u00e9     1234\n");
}

TEST(ReportText, JoinsListsOfValues) {
    EXPECT_EQ(text_of({{"files", {"a", "b"}}, {"none", Report::array()}}), "files  a, b\nnone   -\n");
}

TEST(ReportText, KeepsLargeNumbersWholeAndRoundsOthers) {
    EXPECT_EQ(text_of({{"steps", 1.25e12}, {"loss", 0.123456789}}), "steps  1250000000000\nloss   0.123457\n");
}

TEST(ReportJson, IsTheTreeInItsOrder) {
    const Report report{{"z", 1}, {"a", {{"bytes", 7}}}};
    EXPECT_EQ(Report::parse(render(report, ReportStyle::kJson)), report);
    EXPECT_LT(render(report, ReportStyle::kJson).find("\"z\""), render(report, ReportStyle::kJson).find("\"a\""));
}

}  // namespace
}  // namespace duologue
