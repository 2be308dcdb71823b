#include <algorithm>
#include <memory>

#include "brick/base/id.h"
#include "tools/ctl/brick_spec.h"
#include "tools/ctl/progress.h"
#include "tools/ctl/state_source.h"
#include "tools/ctl/table.h"

// voldctl peer, pool and get-state.
namespace voldfs::ctl {
namespace {

constexpr uint16_t kApiPort = 24107;
constexpr int kProbeTimeoutMs = 40'000;

std::string state_text(const Reading& reading, const Json& peer) {
  const Json live = reading.status.at("peers").value(peer.at("id").get<std::string>(), Json());
  const bool retired = std::ranges::any_of(reading.state.value("retired", Json::array()), [&](const Json& voter) { return voter == peer.at("voter"); });
  if (retired) return "Lost, its vote is refused";
  return live.is_null() ? "Unknown" : live.value("connected", false) ? "Connected" : "Disconnected";
}

struct ProbeWords {
  std::string host, token, replace;
  bool witness = false;
};

std::string state_coloured(const Reading& reading, const Json& peer) {
  const std::string text = state_text(reading, peer);
  return coloured(text, text == "Connected" ? Colour::kGood : text == "Unknown" ? Colour::kWarning : Colour::kBad);
}

Explained<Report> probe(const Place& place, const ProbeWords& words) {
  const std::string& host = words.host;
  std::string name = host;
  uint16_t port = kApiPort;
  if (const auto with_port = parse_host_port(host)) {
    name = with_port->host;
    port = with_port->port;
  }
  const auto address = resolve(name);
  if (!address) return explain("peer probe: failed: " + address.error());
  const Progress progress(place, [&] {
    const auto reading = read_cluster(place, false, "");
    if (!reading || reading->from_files) return std::string("peer probe: waiting for voldmgmt on this node");
    const bool in = std::ranges::any_of(reading->state.at("peers"), [&](const Json& peer) { return peer.at("address") == *address && peer.at("api_port") == port; });
    return "peer probe: " + host + (in ? " is a peer now, waiting until it has caught up with the log" : " is being asked, and given its place");
  });
  const auto result = post(place, "/v1/peers/probe", {{"address", *address}, {"port", port}, {"token", words.token}, {"replace", words.replace}, {"witness", words.witness}}, kProbeTimeoutMs);
  if (!result) return explain("peer probe: failed: " + result.error());
  std::string text = "peer probe: success.";
  if (result->value("already", false)) text += " Host " + host + " is already a peer.";
  else if (!result->value("caught_up", true)) text += " It has not caught up yet.";
  return Report{text + "\n", *result};
}

Explained<Id> peer_id(const Reading& reading, const std::string& host) {
  for (const Json& peer : reading.state.at("peers")) {
    if (peer.at("name") == host || peer.at("address") == host || peer.at("id") == host) return Id::parse(peer.at("id").get<std::string>()).value();
  }
  return explain(host + " is not a peer of this cluster");
}

Explained<Report> change_peer(const Place& place, const std::string& verb, const std::string& host, const std::string& op, Json fields) {
  const auto reading = read_cluster(place, false, "");
  if (!reading) return explain(reading.error());
  const auto id = peer_id(*reading, host);
  if (!id) return explain("peer " + verb + ": failed: " + id.error());
  fields["peer"] = id->uuid();
  const auto result = change_cluster(place, op, std::move(fields));
  if (!result) return explain("peer " + verb + ": failed: " + result.error());
  Report report{"peer " + verb + ": success\n", *result};
  std::string behind;
  for (const Json& name : result->value("behind", Json::array())) behind += (behind.empty() ? "" : ", ") + name.get<std::string>();
  if (!behind.empty()) report.note = "These peers have not heard of it yet: " + behind + ". Do not move the node before they have (voldctl pool list, there).";
  return report;
}

Explained<Report> detach(const Place& place, const std::string& host) {
  if (!confirm(place, "The peer will leave the cluster. Do you want to continue?")) return declined("peer detach");
  return change_peer(place, "detach", host, "peer-remove", Json::object());
}

Explained<Report> status(const Place& place) {
  const auto reading = read_cluster(place, true, "");
  if (!reading) return explain(reading.error());
  std::string text;
  size_t others = 0;
  for (const Json& peer : reading->state.at("peers")) {
    if (peer.at("id") == reading->self) continue;
    ++others;
    text += "\nHostname: " + peer.at("name").get<std::string>() + "\nUuid: " + peer.at("id").get<std::string>() +
            "\nState: Peer in Cluster (" + state_coloured(*reading, peer) + ")\n" + (peer.value("witness", false) ? "Witness: holds no bricks\n" : "") +
            (peer.value("role", "") == "standby" ? "Role: stand-by, without a vote\n" : "");
  }
  return report_of(*reading, "Number of Peers: " + std::to_string(others) + "\n" + text,
                   {{"peers", reading->state.at("peers")}, {"status", reading->status.at("peers")}});
}

Explained<Report> pool_list(const Place& place) {
  const auto reading = read_cluster(place, true, "");
  if (!reading) return explain(reading.error());
  Table table({"UUID", "Hostname", "State"});
  for (const Json& peer : reading->state.at("peers")) {
    const bool self = peer.at("id") == reading->self;
    const std::string state = self && !reading->from_files ? "Connected" : state_text(*reading, peer);
    table.add({peer.at("id").get<std::string>(), self ? "localhost" : peer.at("name").get<std::string>(),
               {state, state == "Connected" ? Colour::kGood : state == "Unknown" ? Colour::kWarning : Colour::kBad}});
  }
  return report_of(*reading, table.text(), {{"peers", reading->state.at("peers")}, {"status", reading->status.at("peers")}});
}

Explained<Report> token(const Place& place) {
  const auto reading = mgmt_token(place);
  if (!reading) return explain(reading.error());
  return Report{reading->at("token").get<std::string>() + "\n", *reading};
}

Explained<Report> recover(const Place& place, const std::vector<std::string>& lost) {
  std::string names;
  for (const std::string& host : lost) names += (names.empty() ? "" : ", ") + host;
  if (!confirm(place, "This node goes on alone, with what it knows, and " + names + " will never vote again.\n"
                      "- Changes that were made after this node lost contact are undone: volumes, options, peers are what this node shows now.\n"
                      "- If one of them is alive after all and still changes things, there are two clusters, and mounts refuse one of them.\n"
                      "Do this only if they will not come back, and stop voldmgmt there first if you can. Files on bricks are not touched.\n"
                      "Are they gone for good, and do you want to continue?"))
    return declined("peer recover");
  const Progress progress(place, [&] { return "peer recover: " + what_holds_up(place); });
  const auto result = post(place, "/v1/peers/recover", {{"lost", lost}}, kProbeTimeoutMs);
  if (!result) return explain("peer recover: failed: " + result.error());
  return Report{"peer recover: success\n", *result};
}

Explained<Report> get_state(const Place& place) {
  const auto reading = read_cluster(place, true);
  if (!reading) return explain(reading.error());
  const Json json = {{"state", reading->state}, {"status", reading->status}};
  return report_of(*reading, json.dump(2) + "\n", json);
}

}  // namespace

void add_peer_commands(CLI::App& app, Chosen& chosen, const std::shared_ptr<Place>& place) {
  CLI::App* peer = app.add_subcommand("peer", "Nodes of the cluster");
  peer->require_subcommand(1);
  struct Words {
    std::string host, address, name, role;
    ProbeWords probe;
    std::vector<std::string> lost;
  };
  const auto words = std::make_shared<Words>();
  const auto act = [&](CLI::App* verb, auto action) {
    verb->callback([&chosen, place, words, action] { chosen.action = [place, words, action] { return action(*place, *words); }; });
  };
  CLI::App* verb = peer->add_subcommand("probe", "HOST[:PORT]: take a node into the cluster");
  verb->add_option("HOST", words->probe.host, "The node")->required()->type_name("");
  verb->add_option("--token", words->probe.token, "What `voldctl peer token` prints there; not needed if both have the same secret")->type_name("TOKEN");
  verb->add_flag("--witness", words->probe.witness, "It votes, and holds no bricks");
  verb->add_option("--replace", words->probe.replace, "It takes the place and the bricks of this peer, which is lost")->type_name("NAME");
  act(verb, [](const Place& p, const Words& w) { return probe(p, w.probe); });
  verb = peer->add_subcommand("detach", "HOST: remove a node without bricks");
  verb->add_option("HOST", words->host, "The node")->required()->type_name("");
  act(verb, [](const Place& p, const Words& w) { return detach(p, w.host); });
  verb = peer->add_subcommand("set-address", "HOST ADDRESS: a node has a new address");
  verb->add_option("HOST", words->host, "The node")->required()->type_name("");
  verb->add_option("ADDRESS", words->address, "Its address, a literal")->required()->type_name("");
  act(verb, [](const Place& p, const Words& w) { return change_peer(p, "set-address", w.host, "peer-set-address", {{"address", w.address}}); });
  verb = peer->add_subcommand("rename", "HOST NAME: a node has a new name, the HOST of HOST:/PATH");
  verb->add_option("HOST", words->host, "The node")->required()->type_name("");
  verb->add_option("NAME", words->name, "Its name")->required()->type_name("");
  act(verb, [](const Place& p, const Words& w) { return change_peer(p, "rename", w.host, "peer-set-address", {{"name", w.name}}); });
  verb = peer->add_subcommand("set-role", "HOST voter|standby: whether a node has a vote");
  verb->add_option("HOST", words->host, "The node")->required()->type_name("");
  verb->add_option("ROLE", words->role, "voter or standby")->required()->type_name("")->check(CLI::IsMember({"voter", "standby"}));
  act(verb, [](const Place& p, const Words& w) { return change_peer(p, "set-role", w.host, "peer-set-role", {{"role", w.role}}); });
  verb = peer->add_subcommand("recover", "HOST...: go on without a majority; those named are lost for good");
  verb->add_option("HOST", words->lost, "The nodes that are lost")->required()->type_name("");
  act(verb, [](const Place& p, const Words& w) { return recover(p, w.lost); });
  act(peer->add_subcommand("status", "The other nodes and whether they answer"), [](const Place& p, const Words&) { return status(p); });
  act(peer->add_subcommand("token", "Print the secret that lets this node join a cluster"), [](const Place& p, const Words&) { return token(p); });

  CLI::App* pool = app.add_subcommand("pool", "All nodes of the cluster");
  pool->require_subcommand(1);
  act(pool->add_subcommand("list", "All nodes, this one included"), [](const Place& p, const Words&) { return pool_list(p); });
  act(app.add_subcommand("get-state", "Everything that is known, as JSON"), [](const Place& p, const Words&) { return get_state(p); });
}

}  // namespace voldfs::ctl
