#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "brick/base/clock.h"
#include "dht/volume_map.h"
#include "mgmt/files.h"
#include "mgmt/options.h"
#include "tools/ctl/progress.h"
#include "tools/ctl/state_source.h"
#include "tools/ctl/volume_text.h"

// voldctl volume: verbs, order of arguments and output are those of `gluster volume`.
namespace voldfs::ctl {
namespace {

using Arguments = std::vector<std::string>;

constexpr int64_t kBricksTimeoutMs = 15'000;
constexpr std::chrono::milliseconds kBricksPoll{100};

bool take_last(Arguments& arguments, const std::string& word) {
  if (arguments.empty() || arguments.back() != word) return false;
  arguments.pop_back();
  return true;
}

// "volume start: vol: success", or why not.
Explained<Report> changed(const std::string& verb, const std::string& name, const Explained<Json>& result, const std::string& more = "") {
  if (!result) return explain("volume " + verb + ": " + name + ": failed: " + result.error());
  return Report{"volume " + verb + ": " + name + ": success" + more + "\n", {{"volume", name}, {"result", *result}}};
}

Explained<Report> create(const Place& place, const std::string& name, Arguments bricks) {
  const bool force = take_last(bricks, "force");
  if (bricks.empty()) return explain("volume create: name at least one brick, as in HOST:/PATH.");
  return changed("create", name, change_cluster(place, "volume-create", {{"volume", name}, {"bricks", bricks}, {"force", force}}),
                 ": please start the volume to access data");
}

// Until the volume's bricks are there (or gone). They come when they can: what is missing at the deadline is said, and
// is no failure of the change, which has happened.
std::string await_bricks(const Place& place, const std::string& name, bool online) {
  std::mutex mutex;
  std::string waiting_for;  // guarded by mutex
  const Progress progress(place, [&] {
    const std::lock_guard lock(mutex);
    return waiting_for;
  });
  std::string missing;
  const int64_t deadline = boottime_ms() + kBricksTimeoutMs;
  for (;; std::this_thread::sleep_for(kBricksPoll)) {
    missing.clear();
    std::string names;
    size_t settled = 0;
    const auto reading = read_cluster(place, true, name);
    if (!reading || !reading->state["volumes"].contains(name)) return "";
    for (const Json& brick : reading->state["volumes"][name].at("map").at("bricks")) {
      const Json live = reading->status.at("bricks").value(brick.at("id").get<std::string>(), Json());
      const bool answers = live.is_object() && live.value("online", false);
      const bool is_gone = live.is_object() && !answers && !live.contains("pid");  // one that ends answers no more
      if (online ? answers : is_gone) {
        ++settled;
        continue;
      }
      names += (names.empty() ? "" : ", ") + brick.at("node").get<std::string>() + ":" + brick.at("path").get<std::string>();
      missing += "\n  " + brick.at("node").get<std::string>() + ":" + brick.at("path").get<std::string>();
      if (live.is_object() && live.contains("trouble")) missing += ": " + live.at("trouble").get<std::string>();
    }
    if (missing.empty() || boottime_ms() > deadline) return missing;
    const size_t all = reading->state["volumes"][name].at("map").at("bricks").size();
    const std::lock_guard lock(mutex);
    waiting_for = std::string("volume ") + (online ? "start: " : "stop: ") + name + ": " + std::to_string(settled) + " of " + std::to_string(all) +
                  (online ? " bricks are up" : " bricks are down") + ", waiting for " + names;
  }
}

Explained<Report> start(const Place& place, const std::string& name, Arguments rest) {
  auto report = changed("start", name, change_cluster(place, "volume-start", {{"volume", name}, {"force", take_last(rest, "force")}}));
  if (!report) return report;
  if (const std::string missing = await_bricks(place, name, true); !missing.empty())
    report->note = "these bricks are not up yet:" + missing;
  return report;
}

Explained<Report> stop(const Place& place, const std::string& name, Arguments rest) {
  if (!confirm(place, "Stopping volume will make its data inaccessible. Do you want to continue?")) return declined("volume stop");
  auto report = changed("stop", name, change_cluster(place, "volume-stop", {{"volume", name}, {"force", take_last(rest, "force")}}));
  if (!report) return report;
  if (const std::string missing = await_bricks(place, name, false); !missing.empty())
    report->note = "these bricks are not known to be down yet:" + missing;
  return report;
}

Explained<Report> remove(const Place& place, const std::string& name) {
  // The volume that was asked about is deleted, and none that was made under its name meanwhile.
  const auto reading = read_cluster(place, false, name);
  if (!reading) return explain(reading.error());
  Json fields = {{"volume", name}};
  if (reading->state["volumes"].contains(name)) fields["volume_id"] = reading->state["volumes"][name].at("map").at("volume").at("id");
  if (!confirm(place, "Deleting volume will erase all information about the volume. The files stay on its bricks. Do you want to continue?"))
    return declined("volume delete");
  return changed("delete", name, change_cluster(place, "volume-delete", std::move(fields)));
}

Explained<Report> set(const Place& place, Arguments arguments) {
  if (arguments.size() == 1 && arguments[0] == "help") {
    Json options = Json::array();
    for (const mgmt::OptionInfo& option : mgmt::option_table())
      options.push_back({{"key", option.key}, {"default", option.default_value}, {"range", mgmt::range_of(option)}, {"meaning", option.meaning}});
    return Report{option_help_text(), {{"options", std::move(options)}}};
  }
  if (arguments.size() < 3 || arguments.size() % 2 == 0) return explain("volume set: the arguments are NAME KEY VALUE [KEY VALUE]..., or help.");
  Json options = Json::object();
  for (size_t i = 1; i < arguments.size(); i += 2) options[arguments[i]] = arguments[i + 1];
  return changed("set", arguments[0], change_cluster(place, "volume-set", {{"volume", arguments[0]}, {"options", std::move(options)}}));
}

Explained<Report> reset(const Place& place, const std::string& name, const Arguments& keys) {
  return changed("reset", name, change_cluster(place, "volume-reset", {{"volume", name}, {"keys", keys}}));
}

Explained<Report> rename(const Place& place, const std::string& name, const std::string& to) {
  return changed("rename", name, change_cluster(place, "volume-rename", {{"volume", name}, {"to", to}}));
}

Explained<Json> volumes_of(const Reading& reading, const std::string& name) {
  const Json& volumes = reading.state.at("volumes");
  if (name.empty() || name == "all") return volumes;
  if (!volumes.contains(name)) return explain("Volume " + name + " does not exist");
  return Json{{name, volumes.at(name)}};
}

// Of a volume's name on the command line: all volumes, or this one.
std::optional<std::string> only(const std::string& name) { return name.empty() || name == "all" ? std::nullopt : std::optional(name); }

bool volume_named(const Place& place, const std::string& name) {
  const auto reading = read_cluster(place, false, name);
  return reading && reading->state.at("volumes").contains(name);
}

Explained<Report> info(const Place& place, const std::string& name) {
  const auto reading = read_cluster(place, false, only(name));
  if (!reading) return explain(reading.error());
  const auto volumes = volumes_of(*reading, name);
  if (!volumes) return explain(volumes.error());
  std::string text;
  for (const auto& [each, volume] : volumes->items()) text += volume_info_text(each, volume);
  if (text.empty()) text = "No volumes present\n";
  return report_of(*reading, text, {{"volumes", *volumes}});
}

Explained<Report> list(const Place& place) {
  const auto reading = read_volume_names(place);
  if (!reading) return explain(reading.error());
  std::string text;
  Json names = Json::array();
  for (const auto& [name, volume] : reading->state.at("volumes").items()) {
    text += name + "\n";
    names.push_back(name);
  }
  if (text.empty()) text = "No volumes present in cluster\n";
  return report_of(*reading, text, {{"volumes", std::move(names)}});
}

// The word behind [NAME|all]: detail, clients or tasks.
Explained<Report> status(const Place& place, Arguments rest) {
  std::string kind;
  const bool is_kind = !rest.empty() && (rest.back() == "detail" || rest.back() == "clients" || rest.back() == "tasks");
  if (is_kind && (rest.size() > 1 || !volume_named(place, rest[0]))) {  // a volume may have such a name
    kind = rest.back();
    rest.pop_back();
  }
  if (rest.size() > 1) return explain("volume status: the arguments are [NAME|all] [detail|clients|tasks].");
  const auto reading = read_cluster(place, true, only(rest.empty() ? "" : rest[0]));
  if (!reading) return explain(reading.error());
  const auto volumes = volumes_of(*reading, rest.empty() ? "" : rest[0]);
  if (!volumes) return explain(volumes.error());
  Json bricks = reading->status.at("bricks");
  if (kind == "clients" && !reading->from_files) {
    const auto answer = get(place, "/v1/clients", kReadTimeoutMs);
    if (!answer) return explain("volume status: " + answer.error());
    bricks = answer->at("bricks");
  }
  std::string text;
  Json shown = Json::object(), tasks = Json::object();
  for (const auto& [name, volume] : volumes->items()) {
    if (kind == "tasks") {
      text += volume_tasks_text(name);
    } else if (!volume.value("started", false)) {
      text += "Volume " + name + " is not started\n \n";
    } else {
      text += kind == "clients" ? volume_clients_text(name, volume, bricks) : volume_status_text(name, volume, bricks, kind == "detail");
    }
    tasks[name] = Json::array();
    for (const Json& brick : volume.at("map").at("bricks")) {
      const std::string id = brick.at("id");
      if (bricks.contains(id)) shown[id] = bricks.at(id);
    }
  }
  if (text.empty()) text = "No volumes present\n";
  return report_of(*reading, text, {{"volumes", *volumes}, {"bricks", std::move(shown)}, {"tasks", std::move(tasks)}});
}

// gluster has both orders: log rotate NAME [BRICK], log NAME rotate [BRICK].
Explained<Report> log_rotate(const Place& place, Arguments words) {
  if (words.size() >= 2 && words[1] == "rotate" && words[0] != "rotate") std::swap(words[0], words[1]);
  if (words.size() < 2 || words.size() > 3 || words[0] != "rotate") return explain("volume log: the arguments are rotate NAME [HOST:/PATH].");
  Json request = {{"volume", words[1]}};
  if (words.size() == 3) request["brick"] = words[2];
  const auto result = post(place, "/v1/logs/rotate", request, kReadTimeoutMs);
  if (!result) return explain("volume log rotate: " + words[1] + ": failed: " + result.error());
  std::string missing;
  for (const Json& name : result->at("missing")) missing += (missing.empty() ? "" : ", ") + name.get<std::string>();
  std::string failed;
  for (const Json& sentence : result->at("failed")) failed += (failed.empty() ? "" : "\n") + sentence.get<std::string>();
  if (!failed.empty()) return explain("volume log rotate: " + words[1] + ": failed: " + failed);
  Report report{"volume log rotate: " + words[1] + ": success\n", {{"volume", words[1]}, {"result", *result}}};
  std::map<std::string, std::string> names;  // of bricks, as people know them
  const auto reading = read_cluster(place, false, words[1]);
  if (reading && reading->state["volumes"].contains(words[1])) {
    for (const Json& brick : reading->state["volumes"][words[1]].at("map").at("bricks")) names[brick.at("id")] = brick.at("node").get<std::string>() + ":" + brick.at("path").get<std::string>();
  }
  for (const auto& [brick, where] : result->at("rotated").items()) report.text += "  " + (names.contains(brick) ? names[brick] : brick) + ": the old log is " + where.get<std::string>() + "\n";
  if (!missing.empty()) {
    report.note = "These peers do not answer, and their bricks' logs were not rotated: " + missing + ".";
    report.exit_code = kExitPartial;
  }
  return report;
}

// What changes the bricks of a volume: its place is kept, so that a script gets a clear refusal and not a usage error.
Explained<Report> not_yet(const std::string& verb) {
  return explain("volume " + verb + ": failed: nothing was changed. This version of voldfs cannot change the bricks of a volume yet: "
                 "give a volume all its bricks at `voldctl volume create`, or make another volume.");
}

Explained<Report> get(const Place& place, const std::string& name, const std::string& key) {
  const auto reading = read_cluster(place, false, name);
  if (!reading) return explain(reading.error());
  const auto volumes = volumes_of(*reading, name);
  if (!volumes) return explain("volume get: " + volumes.error());
  const Json set = volumes->at(name).at("map").value("options", Json::object());
  Json options = Json::object();
  for (const mgmt::OptionInfo& option : mgmt::option_table()) {
    if (key == "all" || key == option.key) options[option.key] = set.value(option.key, option.default_value);
  }
  for (const auto& [each, value] : set.items()) {
    if (key == "all" || key == each) options[each] = value;
  }
  if (options.empty()) return explain("volume get: there is no option " + key + "; `voldctl volume set help` lists them.");
  std::string text = "Option                                   Value\n------                                   -----\n";
  for (const auto& [each, value] : options.items()) {
    std::string column = each;
    column.resize(std::max<size_t>(41, column.size() + 1), ' ');
    text += column + value.get<std::string>() + "\n";
  }
  return report_of(*reading, text, {{"options", std::move(options)}});
}

Explained<Report> map(const Place& place, const std::string& name) {
  const auto reading = read_cluster(place, false, name);
  if (!reading) return explain(reading.error());
  const auto volumes = volumes_of(*reading, name);
  if (!volumes) return explain(volumes.error());
  const auto parsed = dht::VolumeMap::parse(volumes->at(name).at("map").dump());
  if (!parsed) return explain(parsed.error());
  Report report = report_of(*reading, parsed->to_json(), Json::object());
  report.json = volumes->at(name).at("map");  // the map itself, to be mounted
  return report;
}

// What a client needs beside the volume's name. Only root can read it here, and who has it is root on the volume.
Explained<Report> secret(const Place& place, const std::string& name) {
  const auto document = mgmt::read_document(place.state_dir + "/state.json");
  if (!document) return explain("volume secret: " + place.state_dir + "/state.json cannot be read: run this on a node of the cluster, as root.");
  const Json volume = document->value("state", Json::object()).value("volumes", Json::object()).value(name, Json());
  if (!volume.is_object()) return explain("Volume " + name + " does not exist");
  const auto text = volume.at("secret").get<std::string>();
  return Report{text + "\n", {{"volume", name}, {"secret", text}}};
}

struct Words {
  std::string name, word;
  Arguments rest;
};

}  // namespace

void add_volume_commands(CLI::App& app, Chosen& chosen, const std::shared_ptr<Place>& place) {
  CLI::App* volume = app.add_subcommand("volume", "Volumes of the cluster");
  volume->require_subcommand(1);
  // A verb with NAME (required or not), one more word, and what follows.
  const auto verb = [&](const char* name, const char* help, const char* volume_name, const char* word, const char* rest, auto action) {
    CLI::App* command = volume->add_subcommand(name, help);
    const auto words = std::make_shared<Words>();
    if (*volume_name) {
      auto* option = command->add_option("NAME", words->name, "The volume")->type_name("");
      if (*volume_name == '!') option->required();
    }
    if (*word) command->add_option(word, words->word)->required()->type_name("");
    if (*rest) command->add_option(rest, words->rest)->type_name("");
    command->callback([&chosen, place, words, action] { chosen.action = [place, words, action] { return action(*place, *words); }; });
  };
  verb("create", "NAME HOST:/PATH... [force]: make a volume", "!", "", "BRICK", [](const Place& p, const Words& w) { return create(p, w.name, w.rest); });
  verb("start", "NAME [force]: serve its bricks", "!", "", "force", [](const Place& p, const Words& w) { return start(p, w.name, w.rest); });
  verb("stop", "NAME [force]: stop its bricks", "!", "", "force", [](const Place& p, const Words& w) { return stop(p, w.name, w.rest); });
  verb("delete", "NAME: forget it; the files stay on the bricks", "!", "", "", [](const Place& p, const Words& w) { return remove(p, w.name); });
  verb("rename", "NAME NEWNAME: mounts go on, for they know a volume by its id", "!", "NEWNAME", "", [](const Place& p, const Words& w) { return rename(p, w.name, w.word); });
  verb("set", "NAME KEY VALUE...: options; `set help` lists them", "", "", "ARGUMENTS", [](const Place& p, const Words& w) { return set(p, w.rest); });
  verb("get", "NAME KEY|all: options as they are in effect", "!", "KEY", "", [](const Place& p, const Words& w) { return get(p, w.name, w.word); });
  verb("reset", "NAME [KEY...]: options back to their defaults", "!", "", "KEY", [](const Place& p, const Words& w) { return reset(p, w.name, w.rest); });
  verb("info", "[NAME|all]: what volumes are made of", "?", "", "", [](const Place& p, const Words& w) { return info(p, w.name); });
  verb("list", "The names of all volumes", "", "", "", [](const Place& p, const Words&) { return list(p); });
  verb("status", "[NAME|all] [detail|clients|tasks]: bricks and their processes", "", "", "ARGUMENTS", [](const Place& p, const Words& w) { return status(p, w.rest); });
  verb("log", "rotate NAME [BRICK]: begin new logs of its bricks", "", "", "ARGUMENTS", [](const Place& p, const Words& w) { return log_rotate(p, w.rest); });
  for (const char* later : {"add-brick", "remove-brick", "replace-brick", "rebalance"}) {
    verb(later, "Not in this version", "", "", "ARGUMENTS", [name = std::string(later)](const Place&, const Words&) { return not_yet(name); });
  }
  verb("secret", "NAME: print the secret that a client keeps in /etc/voldfs/secrets/NAME", "!", "", "", [](const Place& p, const Words& w) { return secret(p, w.name); });
  verb("map", "NAME: print its map", "!", "", "", [](const Place& p, const Words& w) { return map(p, w.name); });
}

}  // namespace voldfs::ctl
