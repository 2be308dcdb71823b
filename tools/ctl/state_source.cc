#include "tools/ctl/state_source.h"

#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <iostream>
#include <thread>

#include "brick/base/unique_fd.h"
#include "mgmt/brick_questions.h"
#include "mgmt/fault_point.h"
#include "mgmt/files.h"
#include "mgmt/http.h"
#include "mgmt/node.h"
#include "tools/ctl/progress.h"

namespace voldfs::ctl {

namespace {

constexpr int kChangeTimeoutMs = 20'000;
// A daemon that hangs must not make a read take longer than a second; one of a busy machine is given as long.
constexpr int kAnswerMs = 950;
constexpr auto kSilent = std::chrono::milliseconds(250);  // after which it is looked what can be said without the daemon
constexpr uint32_t kAskBricksMs = 650;
constexpr int kStateMs = 800;
constexpr int kRetries = 5;

mgmt::HttpTarget target_of(const Place& place) { return {place.run_dir + "/voldmgmt.socket", "", 0, nullptr}; }

std::string seconds_text(int64_t ms) { return std::to_string(ms / 1000) + "." + std::to_string(ms % 1000 / 100) + " s"; }

// Whether a process has the daemon's socket, be it one that hangs.
bool daemon_runs(const Place& place) {
  const unique_fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = target_of(place).unix_socket;
  if (!fd || path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno == EAGAIN;
}

std::string daemon_trouble(const Place& place) {
  return daemon_runs(place) ? "voldmgmt on this node does not answer" : "voldmgmt does not run on this node";
}

// Every brick of a started volume, asked itself.
Json ask_all(const Json& document) {
  const auto state = mgmt::ClusterState::from_json(document);
  if (!state) return Json::object();
  return mgmt::ask_by_id(mgmt::contacts_of(*state, "all"), kAskBricksMs);
}

Explained<Reading> read_files(const Place& place, bool with_status) {
  const std::string path = place.state_dir + "/state.json";
  const auto document = mgmt::read_document(path);
  if (!document) {
    return explain(daemon_trouble(place) + ", and " + path + (document.error().code == EBADMSG ? " is damaged" : " cannot be read (" + std::string(std::strerror(document.error().code)) + ")") +
                   ". Start voldmgmt, or ask another node.");
  }
  Reading reading;
  reading.from_files = true;
  reading.trouble = daemon_trouble(place);
  reading.state = document->value("state", Json::object());
  reading.state.erase("remembered");
  for (auto& [name, volume] : reading.state["volumes"].items()) volume.erase("secret");
  reading.self = document->value("node", "");
  struct stat st{};
  reading.age_ms = ::stat(path.c_str(), &st) == 0 ? (::time(nullptr) - st.st_mtime) * 1000 : -1;
  if (with_status) {
    Json missing = Json::array();
    for (const Json& peer : reading.state["peers"]) missing.push_back(peer.at("name"));
    reading.status = {{"bricks", ask_all(document->value("state", Json::object()))}, {"peers", Json::object()}, {"missing", std::move(missing)}};
  }
  return reading;
}

}  // namespace

std::string Reading::note() const {
  if (complete()) return "";
  std::string text;
  if (from_files) {
    text = trouble + ": this is from its state directory";
    if (age_ms >= 0) text += ", written " + seconds_text(age_ms) + " ago";
    if (!status.is_null()) text += "; the bricks were asked themselves";
    return text + ".";
  }
  if (!quorum) {
    text = "This node has no contact with a majority of the cluster" +
           (age_ms < 0 ? std::string(" since it started") : "; what it knows is " + seconds_text(age_ms) + " old") + ".";
  }
  if (!status.is_null()) {
    std::string names;
    for (const Json& name : status.value("missing", Json::array())) names += (names.empty() ? "" : ", ") + name.get<std::string>();
    if (!names.empty()) text += (text.empty() ? "" : " ") + std::string("These peers do not answer: ") + names + ".";
  }
  return text;
}

Json Reading::about() const {
  Json json = {{"complete", complete()}, {"quorum", quorum}, {"age_ms", age_ms}, {"from_files", from_files}};
  if (!status.is_null()) json["missing"] = status.value("missing", Json::array());
  return json;
}

static Reading reading_of(const Json& json) {
  Reading reading;
  reading.self = json.at("known").at("node").get<std::string>();
  reading.quorum = json.at("known").at("quorum").get<bool>();
  reading.age_ms = json.at("known").at("age_ms").get<int64_t>();
  return reading;
}

// What the daemon answers; null: there is none, or it does not answer in time.
static Json ask_daemon(const Place& place, const std::string& path, int timeout_ms) {
  const auto reply = mgmt::http_call(target_of(place), "GET", path, "", timeout_ms);
  const Json json = reply && reply->status == 200 ? Json::parse(reply->body, nullptr, false) : Json();
  return json.is_object() ? json : Json();
}

Explained<Reading> read_cluster(const Place& place, bool with_status, const std::optional<std::string>& volume) {
  if (!daemon_runs(place)) return read_files(place, with_status);
  // What is no name of a volume asks for none.
  const std::string only = volume ? "?volume=" + (mgmt::valid_name(*volume) ? *volume : "") : "";
  auto asked = std::async(std::launch::async, [&] {
    return ask_daemon(place, (with_status ? "/v1/status" : "/v1/state") + only, with_status ? kAnswerMs : kStateMs);
  });
  // Bricks take their time to answer: they are asked before the daemon is given up.
  std::optional<Explained<Reading>> without;
  if (with_status && asked.wait_for(kSilent) != std::future_status::ready) without = read_files(place, with_status);
  const Json json = asked.get();
  if (json.is_null()) return without ? *without : read_files(place, with_status);
  Reading reading = reading_of(json);
  reading.state = json.at("state");
  if (with_status) reading.status = json.at("status");
  return reading;
}

Explained<Reading> read_volume_names(const Place& place) {
  const Json json = ask_daemon(place, "/v1/volume-names", kStateMs);
  if (json.is_null()) return read_files(place, false);
  Reading reading = reading_of(json);
  reading.state["volumes"] = Json::object();
  for (const Json& name : json.at("names")) reading.state["volumes"][name.get<std::string>()] = nullptr;
  return reading;
}

static Explained<Json> parsed(const Explained<mgmt::HttpReply>& reply) {
  if (!reply) return explain(reply.error());
  const Json json = Json::parse(reply->body, nullptr, false);
  if (!json.is_object()) return explain("voldmgmt did not answer in JSON.");
  if (json.contains("error")) return explain(json.value("error", ""));
  return json;
}

// What a person is told where there is no daemon to ask.
static std::string start_it(const Place& place) {
  return daemon_trouble(place) + (daemon_runs(place) ? ". Look into its log: journalctl -u voldmgmt." : ". Start it: systemctl start voldmgmt.");
}

Explained<Json> get(const Place& place, const std::string& path, int timeout_ms) {
  if (!daemon_runs(place)) return explain(start_it(place));
  return parsed(mgmt::http_call(target_of(place), "GET", path, "", timeout_ms));
}

Explained<Json> post(const Place& place, const std::string& path, const Json& body, int timeout_ms) {
  if (!daemon_runs(place)) return explain("Nothing was changed: " + start_it(place));
  return parsed(mgmt::http_call(target_of(place), "POST", path, body.dump(), timeout_ms));
}

namespace {

// While a change is under way: who presses Ctrl-C is told what that means.
class Interrupted {
 public:
  Interrupted() {
    struct sigaction action{};
    action.sa_handler = [](int) {
      static constexpr char kText[] = "\nvoldctl: Interrupted. The change goes on without this command: it happens, or not, on all nodes alike. "
                                      "Given again, the command says which.\n";
      static_cast<void>(!::write(STDERR_FILENO, kText, sizeof kText - 1));
      ::_exit(kExitInterrupted);
    };
    ::sigaction(SIGINT, &action, &before_);
  }
  ~Interrupted() { ::sigaction(SIGINT, &before_, nullptr); }
  Interrupted(const Interrupted&) = delete;
  Interrupted& operator=(const Interrupted&) = delete;

 private:
  struct sigaction before_{};
};

}  // namespace

Explained<Json> change_cluster(const Place& place, const std::string& op, Json fields) {
  // Asked first, so that "nothing was changed" can be said for sure.
  if (!mgmt::http_call(target_of(place), "GET", "/healthz", "", kReadTimeoutMs))
    return explain("Nothing was changed: " + start_it(place));
  const Json command = mgmt::new_command(op, std::move(fields));
  const Interrupted interrupted;
  const Progress progress(place, [&] { return op + ": " + what_holds_up(place); });
  for (int i = 0;; ++i) {
    mgmt::fault_point("ctl.begin");
    const auto reply = mgmt::http_call(target_of(place), "POST", "/v1/commands", command.dump(), kChangeTimeoutMs);
    mgmt::fault_point("ctl.answered");
    const Json json = reply ? Json::parse(reply->body, nullptr, false) : Json();
    if (json.is_object() && !json.value("in_doubt", false)) {
      if (json.value("ok", false)) return json;
      return explain(json.value("error", "voldmgmt refused it without a reason."));
    }
    if (i == kRetries) {
      if (json.is_object()) return explain(json.value("error", ""));
      return explain("voldmgmt does not answer: " + reply.error() + " If it ended while it worked, the change has happened or not, on all nodes alike.");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200 << i));
  }
}

Explained<Json> mgmt_token(const Place& place) { return get(place, "/v1/token", kReadTimeoutMs); }

bool confirm(const Place& place, const std::string& question) {
  if (place.script) return true;
  std::cerr << question << " (y/n) " << std::flush;
  std::string answer;
  std::getline(std::cin, answer);
  return answer == "y" || answer == "yes" || answer == "Y";
}

tl::unexpected<std::string> declined(const std::string& verb) { return explain(verb + ": nothing was changed. In scripts: --mode=script, or -y."); }

Report report_of(const Reading& reading, std::string text, Json json) {
  json["about"] = reading.about();
  Report report{std::move(text), std::move(json)};
  report.note = reading.note();
  report.exit_code = reading.complete() ? kExitDone : kExitPartial;
  return report;
}

}  // namespace voldfs::ctl
