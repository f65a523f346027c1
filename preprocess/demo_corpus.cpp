// The grammar: greetings, facts told and asked for, small sums, likes and dislikes, farewells.
#include "demo_corpus.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>
#include <utility>

#include "duologue/core/durable_file.h"
#include "duologue/core/error.h"
#include "duologue/core/random.h"

namespace duologue::preprocess {

namespace {

using Words = std::span<const std::string_view>;

/// How people tell, ask for and repeat one kind of fact; {} is the value.
struct FactKind {
    Words values;
    Words statements;              // "my ..."
    Words questions_about_asker;   // "what is my ... ?"
    Words questions_about_hearer;  // "what is your ... ?"
    std::string_view answer_about_asker;
    std::string_view answer_about_hearer;
};

constexpr std::string_view kNames[] = {"anna",  "ben",  "clara", "david", "emma",  "frank", "grace",
                                       "henry", "ida",  "jack",  "karen", "laura", "maria", "nina",
                                       "oscar", "paul", "rosa",  "sam",   "tina",  "victor"};
constexpr std::string_view kNameStatements[] = {"my name is {} .", "i am called {} .", "people call me {} ."};
constexpr std::string_view kMyName[] = {"what is my name ?", "do you remember my name ?"};
constexpr std::string_view kYourName[] = {"what is your name ?", "sorry , what was your name ?"};

constexpr std::string_view kTowns[] = {"athens", "berlin", "boston", "cairo", "delhi", "dublin", "lima",   "lisbon",
                                       "london", "madrid", "oslo",   "paris", "rome",  "sydney", "vienna", "warsaw"};
constexpr std::string_view kTownStatements[] = {"i live in {} .", "my home is in {} .", "i come from {} ."};
constexpr std::string_view kMyTown[] = {"where do i live ?", "which town is my home ?"};
constexpr std::string_view kYourTown[] = {"where do you live ?", "which town is your home ?"};

constexpr std::string_view kColours[] = {"black", "blue",   "brown", "gold",   "green", "grey",
                                         "pink",  "purple", "red",   "silver", "white", "yellow"};
constexpr std::string_view kColourStatements[] = {"my favourite colour is {} .", "i love the colour {} ."};
constexpr std::string_view kMyColour[] = {"what is my favourite colour ?", "which colour do i love ?"};
constexpr std::string_view kYourColour[] = {"what is your favourite colour ?", "which colour do you love ?"};

constexpr std::string_view kPets[] = {"cat", "canary", "dog",    "frog", "goat",   "hamster",
                                      "hen", "lizard", "parrot", "pony", "rabbit", "turtle"};
constexpr std::string_view kPetStatements[] = {"i have a {} at home .", "my pet is a {} ."};
constexpr std::string_view kMyPet[] = {"what pet do i have ?", "what is my pet ?"};
constexpr std::string_view kYourPet[] = {"what pet do you have ?", "what is your pet ?"};

constexpr std::string_view kJobs[] = {"baker", "cook",    "dentist", "doctor", "driver", "farmer",  "lawyer",
                                      "nurse", "painter", "pilot",   "sailor", "singer", "teacher", "writer"};
constexpr std::string_view kJobStatements[] = {"i work as a {} .", "my job is being a {} ."};
constexpr std::string_view kMyJob[] = {"what is my job ?", "what do i work as ?"};
constexpr std::string_view kYourJob[] = {"what is your job ?", "what do you work as ?"};

constexpr std::string_view kSports[] = {"baseball", "basketball", "billiards", "chess", "cricket", "football",
                                        "golf",     "handball",   "hockey",    "rugby", "tennis",  "volleyball"};
constexpr std::string_view kSportStatements[] = {"i play {} every week .", "my favourite game is {} ."};
constexpr std::string_view kMySport[] = {"which game do i play ?", "what is my favourite game ?"};
constexpr std::string_view kYourSport[] = {"which game do you play ?", "what is your favourite game ?"};

constexpr FactKind kFacts[] = {
    {kNames, kNameStatements, kMyName, kYourName, "your name is {} .", "my name is {} ."},
    {kTowns, kTownStatements, kMyTown, kYourTown, "you live in {} .", "i live in {} ."},
    {kColours, kColourStatements, kMyColour, kYourColour, "your favourite colour is {} .",
     "my favourite colour is {} ."},
    {kPets, kPetStatements, kMyPet, kYourPet, "you have a {} .", "i have a {} ."},
    {kJobs, kJobStatements, kMyJob, kYourJob, "you work as a {} .", "i work as a {} ."},
    {kSports, kSportStatements, kMySport, kYourSport, "you play {} .", "i play {} ."},
};

constexpr std::string_view kLikable[] = {"apples",  "books", "cheese",  "coffee",  "dancing", "films",
                                         "flowers", "jazz",  "museums", "opera",   "parties", "pizza",
                                         "poems",   "rain",  "snow",    "swimming"};
constexpr std::string_view kLikes[] = {"i like {} .", "i love {} ."};
constexpr std::string_view kDislikes[] = {"i do not like {} .", "i hate {} ."};

constexpr std::string_view kRemarks[] = {"that is nice .", "good to know .", "i see .", "how interesting !",
                                         "all right ."};
constexpr std::string_view kThanks[] = {"thank you .", "yes , it is .", "i think so .", "yes ."};

constexpr std::string_view kHellos[] = {"hello !", "hi !", "hey !", "hello there !", "hi there !"};
constexpr std::string_view kHelloReplies[] = {"hello !", "hi !", "hello , nice to see you !"};
constexpr std::string_view kDayTimes[] = {"morning", "afternoon", "evening"};
constexpr std::string_view kHowAreYou[] = {"how are you ?", "how is it going ?", "how do you feel today ?"};
constexpr std::string_view kFine[] = {"fine , thank you .", "i am fine .", "very well , thank you ."};
constexpr std::string_view kFarewells[] = {"goodbye !", "bye !", "see you tomorrow !", "i have to go now ."};
constexpr std::string_view kFarewellReplies[] = {"goodbye !", "bye , see you !", "goodbye , take care !"};

std::string filled(std::string_view pattern, std::string_view value) {
    return fmt::format(fmt::runtime(pattern), value);
}

/// Says one turn after the other; speakers alternate.
class Speech {
   public:
    explicit Speech(RandomStream random) : random_(random) {}

    [[nodiscard]] std::size_t below(std::size_t bound) { return static_cast<std::size_t>(random_.below(bound)); }
    [[nodiscard]] bool chance(int percent) { return random_.below(100) < static_cast<std::uint64_t>(percent); }
    [[nodiscard]] std::string_view any(Words words) { return words[below(words.size())]; }

    /// Now and then without the mark at the end, as people type.
    void say(std::string_view text) { add(chance(30) ? text.substr(0, text.rfind(' ')) : text); }
    void reply(std::string_view text, DemoCheck check) {
        check.turn = conversation_.turns.size();
        conversation_.checks.push_back(std::move(check));
        add(text);
    }
    [[nodiscard]] DemoConversation take() { return std::move(conversation_); }

   private:
    void add(std::string_view text) {
        conversation_.speakers.push_back(static_cast<int>(conversation_.turns.size() % 2));
        conversation_.turns.emplace_back(text);
    }

    RandomStream random_;
    DemoConversation conversation_;
};

DemoCheck greeting_check(std::vector<std::string> answers) {
    return {.turn = 0, .kind = "greeting", .distance = 0, .answers = std::move(answers)};
}

void greet(Speech& speech) {
    if (speech.chance(40)) {
        const std::string_view time = speech.any(kDayTimes);
        speech.say(fmt::format("good {} !", time));
        speech.reply(fmt::format("good {} !", time), greeting_check({std::string(time)}));
    } else {
        speech.say(speech.any(kHellos));
        speech.reply(speech.any(kHelloReplies), greeting_check({"hello", "hi", "hey"}));
    }
    if (!speech.chance(50)) return;
    speech.say(speech.any(kHowAreYou));
    speech.reply(speech.any(kFine), greeting_check({"fine", "well"}));
}

void part(Speech& speech) {
    speech.say(speech.any(kFarewells));
    speech.reply(speech.any(kFarewellReplies), greeting_check({"goodbye", "bye"}));
}

/// Two turns: a question for a sum of at most ten, and its answer, which repeats none of the numbers asked about.
void add_numbers(Speech& speech) {
    const std::size_t sum = speech.below(11);
    const std::size_t first = speech.below(sum + 1);
    const std::string_view question = speech.chance(50) ? "what is {} plus {} ?" : "how much is {} plus {} ?";
    speech.say(fmt::format(fmt::runtime(question), first, sum - first));
    speech.reply(fmt::format("it is {} .", sum),
                 {.turn = 0, .kind = "sum", .distance = 0, .answers = {std::to_string(sum)}});
}

/// In turns from the statement of a fact to its question. Whoever is told something seldom asks for it at once, and a
/// model that had learnt to would look as if it had not listened.
int fact_distance(Speech& speech) {
    const std::size_t percent = speech.below(100);
    if (percent < 20) return 1;
    return percent < 68 ? 2 : 3;
}

/// A statement of a fact, some turns, a question for it and the answer.
void tell_fact(Speech& speech, const FactKind& kind) {
    const std::string_view value = speech.any(kind.values);
    const int distance = fact_distance(speech);
    speech.say(filled(speech.any(kind.statements), value));
    if (distance == 2) speech.say(speech.any(kRemarks));
    if (distance == 3 && speech.chance(50)) {
        add_numbers(speech);
    } else if (distance == 3) {
        speech.say(speech.any(kRemarks));
        speech.say(speech.any(kThanks));
    }
    // At an even distance the one who asks is the one who told.
    const bool about_asker = distance == 2;
    speech.say(speech.any(about_asker ? kind.questions_about_asker : kind.questions_about_hearer));
    speech.reply(filled(about_asker ? kind.answer_about_asker : kind.answer_about_hearer, value),
                 {.turn = 0, .kind = "fact", .distance = distance, .answers = {std::string(value)}});
}

/// One or two statements of likes and dislikes (never two of the same kind) and a question for one of them.
void tell_preference(Speech& speech) {
    const std::size_t first = speech.below(std::size(kLikable));
    const std::size_t second = (first + 1 + speech.below(std::size(kLikable) - 1)) % std::size(kLikable);
    const bool likes_first = speech.chance(50);
    const bool two_statements = speech.chance(50);
    const bool asks_for_second = two_statements && speech.chance(50);
    speech.say(filled(speech.any(likes_first ? kLikes : kDislikes), kLikable[first]));
    speech.say(speech.any(kRemarks));
    if (two_statements) {
        speech.say(filled(speech.any(likes_first ? kDislikes : kLikes), kLikable[second]));
        speech.say(speech.any(kRemarks));
    }
    const std::string_view asked = kLikable[asks_for_second ? second : first];
    const bool yes = likes_first != asks_for_second;
    const int distance = two_statements && !asks_for_second ? 4 : 2;
    speech.say(fmt::format("do i like {} ?", asked));
    speech.reply(fmt::format("{} , you {} {} .", yes ? "yes" : "no", yes ? "like" : "do not like", asked),
                 {.turn = 0, .kind = "preference", .distance = distance, .answers = {yes ? "yes" : "no"}});
}

nlohmann::ordered_json to_json(const DemoConversation& conversation) {
    nlohmann::ordered_json checks = nlohmann::ordered_json::array();
    for (const DemoCheck& check : conversation.checks) {
        checks.push_back(
            {{"turn", check.turn}, {"kind", check.kind}, {"distance", check.distance}, {"answers", check.answers}});
    }
    return {{"turns", conversation.turns}, {"speakers", conversation.speakers}, {"checks", checks}};
}

}  // namespace

DemoConversation demo_conversation(std::uint64_t seed, std::uint64_t index) {
    constexpr std::uint64_t kKey = 0x44656d6f00000001ULL;
    Speech speech(RandomStream(mix_key(mix_key(seed, kKey), index)));
    if (speech.chance(50)) greet(speech);
    // Each kind of fact at most once, so that what is asked for has one answer.
    std::vector<std::size_t> kinds{0, 1, 2, 3, 4, 5};
    const std::size_t topics = 2 + speech.below(2);
    for (std::size_t topic = 0; topic < topics; ++topic) {
        const std::size_t choice = speech.below(10);
        if (choice < 6) {
            const std::size_t which = speech.below(kinds.size());
            tell_fact(speech, kFacts[kinds[which]]);
            kinds.erase(kinds.begin() + static_cast<std::ptrdiff_t>(which));
        } else if (choice < 8) {
            add_numbers(speech);
        } else {
            tell_preference(speech);
        }
    }
    if (speech.chance(30)) part(speech);
    return speech.take();
}

void write_demo_corpus(const std::string& path, std::int64_t conversations, std::uint64_t seed) {
    PendingFile pending(path);
    std::ofstream file(pending.temporary_path());
    for (std::int64_t i = 0; i < conversations && file.good(); ++i) {
        file << to_json(demo_conversation(seed, static_cast<std::uint64_t>(i))).dump() << '\n';
    }
    file.close();
    require(!file.fail(), ErrorCode::kInputOutput, "cannot write '{}': {}", path, std::strerror(errno));
    pending.commit();
}

}  // namespace duologue::preprocess
