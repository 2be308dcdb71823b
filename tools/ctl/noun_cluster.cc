#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <iostream>
#include <memory>

#include "mgmt/examine.h"
#include "mgmt/files.h"
#include "tools/ctl/progress.h"
#include "tools/ctl/state_source.h"
#include "tools/ctl/table.h"

// voldctl backup, restore, events, webhook and doctor: what concerns the cluster as a whole.
namespace voldfs::ctl {
namespace {

constexpr int kRestoreTimeoutMs = 40'000;
constexpr int kFollowWaitMs = 10'000;
constexpr unsigned kFollowRetryUs = 500'000;
constexpr int kDoctorTimeoutMs = 15'000;

Explained<Report> backup(const Place& place, const std::string& file) {
  auto document = get(place, "/v1/backup", kReadTimeoutMs);
  bool from_files = false;
  if (!document) {
    const auto known = mgmt::read_document(place.state_dir + "/state.json");
    if (!known) return explain("backup: failed: " + document.error());
    from_files = true;
    document = Json{{"kind", "voldfs cluster backup"}, {"made", static_cast<int64_t>(::time(nullptr))}, {"node", ""}, {"state", known->at("state")}};
  }
  // It holds the secrets of all volumes.
  if (auto written = mgmt::write_document(file, *document, 0600); !written) return explain("backup: failed: " + written.error());
  const Json& state = document->at("state");
  const auto counted = [&](const char* what) { return std::to_string(state.at(what).size()) + " " + std::string(what, std::strlen(what) - (state.at(what).size() == 1)); };
  Report report{"backup: success: " + file + " holds " + counted("volumes") + " and " + counted("peers") + ", version " + std::to_string(state.at("version").get<uint64_t>()) + ". Keep it safe: who has it is root on the volumes.\n",
                {{"file", file}, {"version", state.at("version")}, {"volumes", state.at("volumes").size()}, {"peers", state.at("peers").size()}}};
  if (from_files) {
    report.note = "voldmgmt does not run on this node: this is from its state directory.";
    report.exit_code = kExitPartial;
  }
  return report;
}

Explained<Report> restore(const Place& place, const std::string& file, const std::string& as) {
  const auto document = mgmt::read_document(file);
  if (!document) return explain("restore: failed: " + file + (document.error().code == EBADMSG ? " is damaged, or no backup." : std::string(": ") + std::strerror(document.error().code) + "."));
  const Json state = document->value("state", Json::object());
  std::string names;
  const Json volumes = state.value("volumes", Json::object());
  for (const auto& [name, volume] : volumes.items()) names += (names.empty() ? "" : ", ") + name;
  if (!confirm(place, "The cluster goes back to what it was at " + time_text(document->value("made", int64_t{0})) + " UTC, with the volumes " + (names.empty() ? "(none)" : names) +
                          ".\nVolumes made since then are forgotten, their bricks stopped; volumes deleted since then come back. Files on bricks are not touched. "
                          "Every map begins a new incarnation.\nDo you want to continue?"))
    return declined("restore");
  const Progress progress(place, [&] { return "restore: " + what_holds_up(place); });
  const auto result = post(place, "/v1/restore", {{"backup", *document}, {"as", as}}, kRestoreTimeoutMs);
  if (!result) return explain("restore: failed: " + result.error());
  return Report{"restore: success\n", {{"result", *result}}};
}

// One line for people.
std::string event_text(const Json& event) {
  std::string details;
  for (const auto& [key, value] : event.at("data").items()) {
    if (key != "command" && key != "version") details += " " + key + "=" + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  return event.at("time").get<std::string>() + " " + event.at("node").get<std::string>() + " " + coloured(event.at("type").get<std::string>(), Colour::kStrong) + details + "\n";
}

// JSON lines if asked for; of what happened already, or on and on until Ctrl-C. A daemon that restarts is found again.
Explained<Report> events(const Place& place, bool follow) {
  std::string stream;
  uint64_t after = 0;
  bool connected = false;
  for (;;) {
    const std::string path = "/v1/events?stream=" + stream + "&after=" + std::to_string(after) + (follow ? "&wait_ms=" + std::to_string(kFollowWaitMs) : "");
    const auto answer = get(place, path, kFollowWaitMs + kReadTimeoutMs);
    if (!answer) {
      if (!follow || !connected) return explain("events: failed: " + answer.error());
      ::usleep(kFollowRetryUs);
      continue;
    }
    connected = true;
    if (answer->value("missed", false)) std::cerr << "voldctl: Some events were missed: voldmgmt restarted, or they came too fast.\n";
    stream = answer->at("stream");
    after = answer->at("next");
    for (const Json& event : answer->at("events")) std::cout << (place.json ? event.dump() + "\n" : event_text(event));
    std::cout.flush();
    if (!std::cout) return explain("The output could not be written.");
    if (!follow && answer->at("events").empty()) return Report{.text = "", .json = nullptr, .printed = true};
  }
}

Explained<Report> webhooks(const Place& place, const std::string& op, const std::string& url) {
  if (op != "list") {
    const auto result = change_cluster(place, "webhook-" + op, {{"url", url}});
    if (!result) return explain("webhook " + op + ": failed: " + result.error());
    return Report{"webhook " + op + ": success\n", {{"result", *result}}};
  }
  const auto reading = read_cluster(place, false, "");
  if (!reading) return explain(reading.error());
  const Json all = reading->state.value("webhooks", Json::array());
  std::string text;
  for (const Json& each : all) text += each.get<std::string>() + "\n";
  return report_of(*reading, text.empty() ? "No webhooks\n" : text, {{"webhooks", all}});
}

Explained<Json> examination(const Place& place) {
  auto answer = get(place, "/v1/doctor", kDoctorTimeoutMs);
  if (answer) return answer;
  // No daemon: what can be seen without one.
  const auto document = mgmt::read_document(place.state_dir + "/state.json");
  Json findings = Json::array();
  const auto say = [&](Json found) {
    found.emplace("node", "this node");
    findings.push_back(std::move(found));
  };
  say(mgmt::finding("error", "state", "voldmgmt does not run on this node.", "systemctl start voldmgmt, and if it does not stay: journalctl -u voldmgmt"));
  if (!document) {
    say(mgmt::finding("error", "state", "The state in " + place.state_dir + "/state.json cannot be read (" + std::strerror(document.error().code) + "), so that nothing else can be examined.",
                      "Start voldmgmt: it writes it again."));
  } else if (const auto state = mgmt::ClusterState::from_json(document->value("state", Json())); state) {
    mgmt::ExamineOptions options;
    options.state_dir = place.state_dir;
    options.conf_dir = place.conf_dir;
    options.node = Id::parse(document->value("node", "")).value_or(Id{});
    const Json found = mgmt::examine_node(*state, options);
    for (const Json& each : found) say(each);
  }
  // These need the other nodes, or a daemon that asks them.
  return Json{{"nodes", {{"this node", {{"version", VOLDFS_VERSION}}}}}, {"findings", std::move(findings)}, {"unexamined", {"peers", "clocks", "versions"}}};
}

Explained<Report> doctor(const Place& place) {
  const auto answer = [&] {
    const Progress progress(place, [] { return std::string("doctor: the nodes look at themselves, and at their bricks"); });
    return examination(place);
  }();
  if (!answer) return explain(answer.error());
  size_t errors = 0, warnings = 0;
  std::string text;
  const Json& findings = answer->at("findings");
  const Json unexamined = answer->value("unexamined", Json::array());
  for (const char* area : mgmt::kAreas) {
    std::string part;
    for (const Json& each : findings) {
      if (each.at("area") != area) continue;
      const bool error = each.at("severity") == "error";
      ++(error ? errors : warnings);
      part += "  " + coloured(error ? "error  " : "warning", error ? Colour::kBad : Colour::kWarning) + "  on " + each.at("node").get<std::string>() + ": " + each.at("what").get<std::string>() +
              "\n           -> " + each.at("mend").get<std::string>() + "\n";
    }
    std::string head = area;
    if (part.empty()) head.resize(12, ' ');
    const bool looked = std::find(unexamined.begin(), unexamined.end(), area) == unexamined.end();
    text += head + (!part.empty() ? "\n" + part : looked ? coloured("ok", Colour::kGood) + "\n" : "not examined\n");
  }
  const size_t nodes = answer->at("nodes").size();
  text += "\n" + (errors + warnings == 0 ? "Nothing is wrong" : std::to_string(errors) + (errors == 1 ? " error, " : " errors, ") + std::to_string(warnings) + (warnings == 1 ? " warning" : " warnings")) +
          "; " + std::to_string(nodes) + (nodes == 1 ? " node was examined.\n" : " nodes were examined.\n");
  Report report{text, {{"nodes", answer->at("nodes")}, {"findings", findings}, {"errors", errors}, {"warnings", warnings}, {"unexamined", unexamined}}};
  report.exit_code = errors ? kExitFailed : kExitDone;
  return report;
}

}  // namespace

void add_cluster_commands(CLI::App& app, Chosen& chosen, const std::shared_ptr<Place>& place) {
  struct Words {
    std::string file, as, url;
    bool follow = false;
  };
  const auto words = std::make_shared<Words>();
  const auto act = [&](CLI::App* verb, auto action) {
    verb->callback([&chosen, place, words, action] { chosen.action = [place, words, action] { return action(*place, *words); }; });
  };
  CLI::App* verb = app.add_subcommand("backup", "FILE: write the state of the cluster, volumes' secrets included, to a file");
  verb->add_option("FILE", words->file, "The file")->required()->type_name("");
  act(verb, [](const Place& p, const Words& w) { return backup(p, w.file); });
  verb = app.add_subcommand("restore", "FILE: go back to a backup");
  verb->add_option("FILE", words->file, "The file")->required()->type_name("");
  verb->add_option("--as", words->as, "Which peer of the backup this node is, where all nodes were lost")->type_name("NAME");
  act(verb, [](const Place& p, const Words& w) { return restore(p, w.file, w.as); });
  verb = app.add_subcommand("events", "What happened in the cluster lately; with --json, JSON lines");
  verb->add_flag("-f,--follow", words->follow, "Go on, until Ctrl-C");
  act(verb, [](const Place& p, const Words& w) { return events(p, w.follow); });
  act(app.add_subcommand("doctor", "Examine the cluster: what is wrong, and what would mend it"), [](const Place& p, const Words&) { return doctor(p); });

  CLI::App* hook = app.add_subcommand("webhook", "URLs that events are posted to");
  hook->require_subcommand(1);
  for (const char* op : {"add", "remove"}) {
    verb = hook->add_subcommand(op, "URL");
    verb->add_option("URL", words->url, "The address, http:// or https://")->required()->type_name("");
    act(verb, [op = std::string(op)](const Place& p, const Words& w) { return webhooks(p, op, w.url); });
  }
  act(hook->add_subcommand("list", "All of them"), [](const Place& p, const Words&) { return webhooks(p, "list", ""); });
}

}  // namespace voldfs::ctl
