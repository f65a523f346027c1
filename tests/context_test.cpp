// Which turns a reply is given.
#include "duologue/data/context.h"

#include <gtest/gtest.h>

namespace duologue {
namespace {

using Tokens = std::vector<std::int32_t>;

Tokens context(const std::vector<Tokens>& turns, std::int64_t max_tokens) {
    const std::vector<TurnTokens> views(turns.begin(), turns.end());
    Tokens tokens;
    append_context(tokens, views, max_tokens);
    return tokens;
}

TEST(Context, HoldsTheLatestWholeTurnsThatFit) {
    const std::vector<Tokens> turns{{10, 11, 12}, {20}, {30, 31}};
    EXPECT_EQ(context(turns, 9), (Tokens{10, 11, 12, 2, 20, 2, 30, 31, 2}));
    EXPECT_EQ(context(turns, 8), (Tokens{20, 2, 30, 31, 2}));
    EXPECT_EQ(context(turns, 5), (Tokens{20, 2, 30, 31, 2}));
    EXPECT_EQ(context(turns, 4), (Tokens{30, 31, 2}));
}

TEST(Context, ATurnThatIsTooLongKeepsItsEnd) {
    EXPECT_EQ(context({{10}, {30, 31, 32, 33}}, 3), (Tokens{32, 33, 2}));
    EXPECT_EQ(context({}, 3), Tokens{});
}

TEST(Context, AnOlderTurnThatWouldFitDoesNotJumpTheGap) {
    EXPECT_EQ(context({{10}, {20, 21, 22, 23}, {30}}, 5), (Tokens{30, 2}));
}

}  // namespace
}  // namespace duologue
