// Command lines: what is wrong is said in one line with the nearest that is right; the help lists everything.
#include "duologue/arguments/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "duologue/arguments/config_options.h"
#include "duologue/core/error.h"

namespace duologue {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

using Arguments = std::vector<std::string>;

enum class Colour : std::uint8_t { kRed, kGreen };

/// A program with the kinds of arguments that there are.
class CommandLines : public testing::Test {
   protected:
    CommandLines() {
        Command& paint = line_.add_command("paint", "paints pictures");
        paint.value("PICTURE,--picture", "FILE", picture_, "what to paint on").required();
        paint.value("--output", "DIR", output_, "where to put it").required();
        paint.integer("--layers", layers_, between(1, 9), "of paint");
        paint.choice("--colour", {{"red", Colour::kRed}, {"green", Colour::kGreen}}, colour_, "of the paint");
        paint.values("--note", "TEXT", notes_, "to remember");
        paint.flag("--dry", "paint nothing", [this] { dry_ = true; });
        add_config_options(paint, "device.", overrides_);
        paint.run = [] { return 17; };
        Command& mix = line_.add_command("mix", "mixes colours");
        mix.values("INPUT", "FILE", inputs_, "what to mix").required();
        mix.run = [] { return 18; };
    }

    /// Reads what is right.
    int run(const Arguments& arguments) { return line_.read(arguments)(); }
    int paint(const Arguments& more) {
        Arguments all{"paint", "a.png", "--output", "out"};
        all.insert(all.end(), more.begin(), more.end());
        return run(all);
    }

    /// What is said to what is wrong.
    std::string refusal(const Arguments& arguments) {
        try {
            (void)line_.read(arguments);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ErrorCode::kConfiguration);
            EXPECT_THAT(error.what(), Not(HasSubstr("\n")));
            return error.what();
        }
        return "nothing";
    }
    /// The same of a `paint` that would be right without `more`.
    std::string refused(const Arguments& more) {
        Arguments all{"paint", "a.png", "--output", "out"};
        all.insert(all.end(), more.begin(), more.end());
        const std::string said = refusal(all);
        EXPECT_THAT(said, EndsWith(" `studio paint --help` lists all options."));
        return said;
    }
    std::string printed(const Arguments& arguments) {
        testing::internal::CaptureStdout();
        EXPECT_EQ(run(arguments), 0);
        return testing::internal::GetCapturedStdout();
    }

    CommandLine line_{"studio", "1.2", "Makes pictures."};
    std::string picture_;
    std::string output_;
    int layers_ = 2;
    Colour colour_ = Colour::kGreen;
    Arguments notes_;
    Arguments inputs_;
    bool dry_ = false;
    std::vector<Override> overrides_;
};

TEST_F(CommandLines, SetWhatTheySay) {
    EXPECT_EQ(paint({"--layers=3", "--colour", "red", "--note", "--x", "--note=y", "--dry"}), 17);
    EXPECT_EQ(picture_, "a.png");
    EXPECT_EQ(output_, "out");
    EXPECT_EQ(layers_, 3);
    EXPECT_EQ(colour_, Colour::kRed);
    EXPECT_EQ(notes_, (Arguments{"--x", "y"}));
    EXPECT_TRUE(dry_);
}

TEST_F(CommandLines, TakeOptionsBeforeAndAfterWhatHasAPlace) {
    EXPECT_EQ(run({"paint", "--output", "o", "--dry", "b.png", "--layers", "4"}), 17);
    EXPECT_EQ(picture_, "b.png");
    EXPECT_EQ(run({"paint", "--output=o", "--picture", "c.png"}), 17);
    EXPECT_EQ(picture_, "c.png");
    EXPECT_EQ(run({"paint", "--output", "o", "--", "--dashed.png"}), 17);
    EXPECT_EQ(picture_, "--dashed.png");
    EXPECT_EQ(run({"paint", "--output", "o", "--", "--a="}), 17);
    EXPECT_EQ(picture_, "--a=");
    EXPECT_EQ(run({"mix", "a", "paint", "c"}), 18);
    EXPECT_EQ(inputs_, (Arguments{"a", "paint", "c"}));
}

TEST_F(CommandLines, TakeValuesAsTyped) {
    EXPECT_EQ(run({"mix", "[a]", "[b,c]", "++", "-", "", "{}", "a=b", "'d'", "--", "--", "-h"}), 18);
    EXPECT_EQ(inputs_, (Arguments{"[a]", "[b,c]", "++", "-", "", "{}", "a=b", "'d'", "--", "-h"}));
    EXPECT_EQ(paint({"--note=--layers", "--note=-h", "--note=--", "--note=", "--note=a=b", "--note", "[x, y]", "--note",
                     "++", "--note", "-"}),
              17);
    EXPECT_EQ(notes_, (Arguments{"--layers", "-h", "--", "", "a=b", "[x, y]", "++", "-"}));
}

TEST_F(CommandLines, GiveTheConfigurationItsOptionsInOrder) {
    EXPECT_EQ(paint({"--device.threads=3", "--device.kind", "cpu", "--device.threads=4"}), 17);
    Config config;
    apply_overrides(config, overrides_);
    EXPECT_EQ(config.device.threads, 4);
    EXPECT_EQ(config.device.kind, DeviceKind::kCpu);
}

TEST_F(CommandLines, AreRefusedWithoutACommandThatThereIs) {
    EXPECT_EQ(refusal({}), "a command is missing: paint, mix. `studio --help` lists them.");
    EXPECT_EQ(refusal({"--"}), refusal({}));
    EXPECT_THAT(refusal({"--", "paint"}), StartsWith("'paint' is one argument too many."));
    EXPECT_EQ(refusal({"piant", "a.png"}),
              "there is no command 'piant'. Did you mean paint? `studio --help` lists them.");
    EXPECT_EQ(refusal({"--dry", "paint", "a.png"}),
              "'--dry' stands before the command paint; it comes after it. `studio paint --help` lists all options.");
    EXPECT_THAT(refusal({"--versoin"}), StartsWith("there is no option '--versoin'. Did you mean --version?"));
}

TEST_F(CommandLines, AreRefusedWithAnOptionThatThereIsNot) {
    EXPECT_THAT(refused({"--layer", "3"}), StartsWith("there is no option '--layer'. Did you mean --layers?"));
    EXPECT_THAT(refused({"--colr=red"}), StartsWith("there is no option '--colr'. Did you mean --colour?"));
    EXPECT_THAT(refused({"-colour", "red"}), HasSubstr("Did you mean --colour?"));
    EXPECT_THAT(refused({"--threads=2"}), HasSubstr("Did you mean --device.threads?"));
    EXPECT_THAT(refused({"--entirely-different"}), StartsWith("there is no option '--entirely-different'. `studio"));
    EXPECT_THAT(refused({"-5"}), StartsWith("there is no option '-5'. `studio"));
    EXPECT_THAT(refusal({"paint", "--outptu", "x"}), StartsWith("there is no option '--outptu'."));
}

TEST_F(CommandLines, AreRefusedWithAnOptionOfTheConfigurationThatTheCommandDoesNotTake) {
    EXPECT_THAT(refused({"--train.epochs=3"}),
                StartsWith("`studio paint` has no option --train.epochs: it would have no effect there."));
    EXPECT_THAT(refused({"--train.lerning_rate=3"}), Not(HasSubstr("train.learning_rate")));
}

TEST_F(CommandLines, AreRefusedWithoutAValue) {
    EXPECT_THAT(refused({"--layers"}), StartsWith("--layers needs a value: an integer from 1 to 9."));
    EXPECT_THAT(refused({"--layers", "--dry"}), StartsWith("--layers needs a value"));
    EXPECT_THAT(refused({"--note", "--"}), StartsWith("--note needs a value: a text."));
    EXPECT_THAT(refused({"--note", "--", "x"}), StartsWith("--note needs a value: a text."));
    EXPECT_THAT(refused({"--note", "--layers=3"}), StartsWith("--note needs a value: a text."));
    EXPECT_THAT(refused({"--device.kind"}), StartsWith("--device.kind needs a value: auto or cpu or cuda."));
    EXPECT_THAT(refusal({"paint", "a.png", "--output="}), StartsWith("--output is '', not a folder."));
    EXPECT_THAT(refusal({"paint", "--output", "--layers", "3", "a.png"}),
                StartsWith("--output needs a value: a folder."));
    EXPECT_THAT(refusal({"paint", "--picture", "--output", "out"}), StartsWith("--picture needs a value: a file."));
}

TEST_F(CommandLines, AreRefusedWithAValueThatIsNotWhatIsExpected) {
    for (const char* value : {"many", "0", "10", "-1", "3.5", "3x", "", "99999999999999999999"}) {
        EXPECT_THAT(refused({std::string("--layers=") + value}),
                    StartsWith(fmt::format("--layers is '{}', not an integer from 1 to 9.", value)));
    }
    EXPECT_THAT(refused({"--layers", "-1"}), StartsWith("--layers is '-1', not an integer from 1 to 9."));
    EXPECT_THAT(refused({"--colour", "grene"}),
                StartsWith("--colour is 'grene', not red or green. Did you mean green?"));
    EXPECT_THAT(refused({"--device.kind=CPU"}), HasSubstr("Did you mean cpu?"));
    EXPECT_THAT(refused({"--device.threads=x"}), StartsWith("--device.threads is 'x', not an integer from 0 to 4096."));
    EXPECT_THAT(refused({"--colour=a\nb"}), StartsWith("--colour is 'a\\x0ab', not red or green."));
}

TEST_F(CommandLines, AreRefusedWithoutWhatIsRequired) {
    EXPECT_THAT(refusal({"paint", "--output", "out"}), StartsWith("PICTURE is missing: what to paint on."));
    EXPECT_THAT(refusal({"paint", "a.png"}), StartsWith("--output DIR is missing: where to put it."));
    EXPECT_THAT(refusal({"mix"}), StartsWith("INPUT is missing: what to mix."));
}

TEST_F(CommandLines, AreRefusedWithTooMuch) {
    EXPECT_THAT(refused({"++"}), StartsWith("'++' is one argument too many."));
    EXPECT_THAT(refused({""}), StartsWith("'' is one argument too many."));
    EXPECT_THAT(refused({"b.png"}), StartsWith("'b.png' is one argument too many."));
    EXPECT_THAT(refused({"--", "--dry"}), StartsWith("'--dry' is one argument too many."));
    EXPECT_THAT(refused({"--layers=2", "--layers=3"}), StartsWith("--layers is given twice: '2' and '3'."));
    EXPECT_THAT(refused({"--picture", "b.png"}), StartsWith("PICTURE is given twice: 'a.png' and 'b.png'."));
    EXPECT_THAT(refused({"--dry", "--dry"}), StartsWith("--dry is given twice."));
    for (const char* flag : {"--dry", "--help", "-h"}) {
        for (const char* value : {"3", "true", "false", ""}) {
            EXPECT_THAT(refused({fmt::format("{}={}", flag, value)}),
                        StartsWith(fmt::format("{} takes no value, but is given '{}'.", flag, value)));
        }
    }
    EXPECT_FALSE(dry_);
}

TEST_F(CommandLines, PrintTheVersion) {
    EXPECT_EQ(printed({"--version"}), "studio 1.2\n");
    EXPECT_EQ(printed({"--version", "paint"}), "studio 1.2\n");
    EXPECT_THAT(refused({"--version"}), StartsWith("there is no option '--version'."));
}

TEST_F(CommandLines, PrintNothingWhereAnotherRankDoes) {
    for (const Arguments& question : {Arguments{"--help"}, Arguments{"--version"}, Arguments{"paint", "-h"}}) {
        testing::internal::CaptureStdout();
        EXPECT_EQ(line_.read(question, Answer::kOmit)(), 0);
        EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
    }
}

TEST_F(CommandLines, ListCommandsInTheHelpOfTheProgram) {
    const std::string help = printed({"--help"});
    EXPECT_THAT(help, StartsWith("usage: studio COMMAND [OPTION...]\nMakes pictures.\n"));
    EXPECT_THAT(help, HasSubstr("\n  paint     paints pictures\n  mix       mixes colours\n"));
    EXPECT_THAT(help, HasSubstr("--version"));
}

TEST_F(CommandLines, ShowTypesRangesChoicesAndDefaultsInTheHelpOfACommand) {
    const std::string help = printed({"paint", "--help"});
    EXPECT_THAT(help, StartsWith("usage: studio paint PICTURE --output DIR [OPTION...]\npaints pictures\n"));
    EXPECT_THAT(help, HasSubstr("\n  PICTURE, --picture FILE            what to paint on [required]\n"));
    EXPECT_THAT(help, HasSubstr("\n  --layers INTEGER                   of paint [1 to 9; default 2]\n"));
    EXPECT_THAT(help, HasSubstr("\n  --colour red|green                 of the paint [default green]\n"));
    EXPECT_THAT(help, HasSubstr("\n  --note TEXT                        to remember [may be repeated]\n"));
    EXPECT_THAT(help, HasSubstr("\n  --dry                              paint nothing\n"));
    EXPECT_THAT(help, HasSubstr("\ndevice:\n  --device.kind auto|cpu|cuda        what computes [default auto]\n"));
    EXPECT_THAT(printed({"mix", "-h"}), StartsWith("usage: studio mix INPUT... [OPTION...]\n"));
    EXPECT_EQ(printed({"paint", "--layers=x", "--note", "--help"}), help);  // whatever else is wrong
    EXPECT_EQ(printed({"--help", "paint"}), help);
    EXPECT_EQ(printed({"-h", "--version", "paint", "a.png"}), help);
}

TEST(CommandLineWithoutCommand, IsOneOfTheProgramItself) {
    CommandLine line("mixer", "1", "Mixes.");
    Arguments inputs;
    std::string other;
    line.itself().values("INPUT", "FILE", inputs, "what to mix").required();
    line.itself().run = [] { return 1; };
    Command& wash = line.add_command("wash", "washes");
    wash.value("--with", "TEXT", other, "what with");
    wash.run = [] { return 2; };
    EXPECT_EQ(line.read({"wash", "--with=soap"})(), 2);
    EXPECT_EQ(other, "soap");
    EXPECT_EQ(line.read({"a", "b"})(), 1);
    EXPECT_EQ(inputs, (Arguments{"a", "b"}));
    EXPECT_THROW((void)line.read({"a", "--with=soap"}), Error);
    EXPECT_THROW((void)line.read({"--"}), Error);
    inputs.clear();
    EXPECT_EQ(line.read({"--", "a", "wash"})(), 1);
    EXPECT_EQ(inputs, (Arguments{"a", "wash"}));
    try {
        (void)line.read({"--with", "soap", "wash"});
        FAIL();
    } catch (const Error& error) {
        EXPECT_STREQ(error.what(),
                     "'--with' stands before the command wash; it comes after it. `mixer wash --help` lists all "
                     "options.");
    }
    testing::internal::CaptureStdout();
    EXPECT_EQ(line.read({"--help"})(), 0);
    EXPECT_THAT(testing::internal::GetCapturedStdout(),
                StartsWith("usage: mixer INPUT... [OPTION...]\n       mixer wash [OPTION...]\nMixes.\n"));
}

}  // namespace
}  // namespace duologue
