#include <voldfs_openapi.h>  // made of openapi.json

#include "mgmt/api.h"
#include "mgmt/brick_path.h"
#include "mgmt/options.h"
#include "mgmt/secret.h"

// Which request goes where, and who may make it; the answers that need nothing but the state.

namespace voldfs::mgmt {

namespace {

HttpReply reply(const Json& json, int status = 200) { return {status, json.dump() + "\n", "application/json"}; }
HttpReply error_reply(int status, std::string sentence) { return reply({{"error", std::move(sentence)}}, status); }
HttpReply outcome(const Explained<Json>& result) { return result ? reply(*result) : error_reply(409, result.error()); }

std::optional<std::string> only_of(const HttpRequest& request) {
  const auto found = request.query.find("volume");
  return found == request.query.end() ? std::nullopt : std::optional(found->second);
}

// A request's body; what is nested without end would be copied and written by recursion without end.
constexpr int kBodyDepthMax = 100;
Json body_of(const std::string& text) {
  bool too_deep = false;
  const auto is_shallow = [&](int depth, Json::parse_event_t, const Json&) { return !(too_deep |= depth > kBodyDepthMax); };
  Json body = Json::parse(text, is_shallow, /*allow_exceptions=*/false);
  return too_deep ? Json(Json::value_t::discarded) : body;
}

// Whether the path is of the pattern, in which {name} stands for one part.
bool fits(std::string_view pattern, std::string_view path, std::string& name) {
  const size_t open = pattern.find('{');
  if (open == std::string_view::npos) return pattern == path;
  const std::string_view rest = pattern.substr(pattern.find('}') + 1);
  if (!path.starts_with(pattern.substr(0, open)) || !path.ends_with(rest) || path.size() <= open + rest.size()) return false;
  name = path.substr(open, path.size() - open - rest.size());
  return name.find('/') == std::string::npos;
}

}  // namespace

// Every path and method; mgmt/openapi.json describes those that are not for nodes among themselves.
const std::vector<Api::Route>& Api::routes() {
  using Access = Api::Access;
  static const std::vector<Route> table = {
      {"GET", "/healthz", Access::kRead, &Api::get_health},
      {"GET", "/metrics", Access::kRead, &Api::get_metrics},
      {"GET", "/v1/openapi.json", Access::kRead, &Api::get_openapi},
      {"GET", "/v1/state", Access::kRead, &Api::get_state},
      {"GET", "/v1/status", Access::kRead, &Api::get_status},
      {"GET", "/v1/peers", Access::kRead, &Api::get_peers},
      {"GET", "/v1/volumes", Access::kRead, &Api::get_volumes},
      {"GET", "/v1/volume-names", Access::kRead, &Api::get_volume_names},
      {"GET", "/v1/volumes/{name}", Access::kRead, &Api::get_volume},
      {"GET", "/v1/volumes/{name}/map", Access::kRead, &Api::get_map},
      {"GET", "/v1/options", Access::kRead, &Api::get_options},
      {"GET", "/v1/events", Access::kRead, &Api::get_events},
      {"GET", "/v1/clients", Access::kRead, &Api::get_clients},
      {"GET", "/v1/doctor", Access::kRead, &Api::get_doctor},
      {"GET", "/v1/token", Access::kSocket, &Api::get_token},
      {"GET", "/v1/backup", Access::kSocket, &Api::get_backup},
      {"POST", "/v1/commands", Access::kSocket, &Api::post_command},
      {"POST", "/v1/peers/probe", Access::kSocket, &Api::post_probe},
      {"POST", "/v1/peers/recover", Access::kSocket, &Api::post_recover},
      {"POST", "/v1/restore", Access::kSocket, &Api::post_restore},
      {"POST", "/v1/logs/rotate", Access::kSocket, &Api::post_rotate},
      {"GET", "/v1/local/ping", Access::kNodes, &Api::get_ping},
      {"GET", "/v1/local/bricks", Access::kNodes, &Api::get_local_bricks},
      {"GET", "/v1/local/doctor", Access::kNodes, &Api::get_local_doctor},
      {"POST", "/v1/local/commit", Access::kNodes, &Api::post_local_commit},
      {"POST", "/v1/local/probe", Access::kNodes, &Api::post_local_probe},
      {"POST", "/v1/local/renew", Access::kNodes, &Api::post_local_renew},
      {"POST", "/v1/local/rotate", Access::kNodes, &Api::post_local_rotate},
      {"POST", "/v1/local/event", Access::kNodes, &Api::post_local_event},
      {"POST", "/v1/local/validate", Access::kNodes, &Api::post_local_validate},
  };
  return table;
}

HttpReply Api::handle(const HttpRequest& request) try {
  bool known_path = false;
  for (const Route& route : routes()) {
    Arguments arguments;
    if (!fits(route.path, request.path, arguments.name)) continue;
    known_path = true;
    if (request.method != route.method) continue;
    if (route.access == Access::kSocket && !request.local)
      return error_reply(403, "This is answered over the unix socket of a node alone, " + node_.options().run_dir + "/voldmgmt.socket.");
    if (route.access == Access::kNodes && !request.node) return error_reply(403, "This is for nodes of the cluster among themselves.");
    if (request.method == "POST") {
      arguments.body = body_of(request.body);
      if (!arguments.body.is_object()) return error_reply(400, "The request's body is no JSON object, or one that is nested too deep.");
    }
    return (this->*route.answer)(request, arguments);
  }
  return known_path ? error_reply(405, "There is no " + request.method + " of " + request.path + ".") : error_reply(404, "There is nothing at " + request.path + ".");
} catch (const std::exception& error) {
  return error_reply(400, std::string("The request is malformed: ") + error.what());
}

Json Api::known() const {
  const Knowledge knowledge = node_.knowledge();
  const Identity me = node_.identity();
  return {{"node", me.node.uuid()}, {"name", me.name}, {"quorum", knowledge.led}, {"age_ms", knowledge.age_ms}};
}

HttpReply Api::get_health(const HttpRequest&, const Arguments&) { return {200, "ok\n", "text/plain"}; }
HttpReply Api::get_metrics(const HttpRequest&, const Arguments&) { return {200, metrics(), "text/plain; version=0.0.4"}; }
HttpReply Api::get_openapi(const HttpRequest&, const Arguments&) { return {200, kOpenApi, "application/json"}; }
// The state is put together from texts that its volumes keep: a document of them all would be made and taken apart for nothing.
HttpReply Api::get_state(const HttpRequest& request, const Arguments&) {
  return {200, "{\"known\":" + known().dump() + ",\"state\":" + node_.state()->public_text(only_of(request)) + "}\n"};
}
HttpReply Api::get_status(const HttpRequest& request, const Arguments&) {
  const auto only = only_of(request);
  const std::string live = status(only).dump();
  return {200, "{\"known\":" + known().dump() + ",\"state\":" + node_.state()->public_text(only) + ",\"status\":" + live + "}\n"};
}
HttpReply Api::get_peers(const HttpRequest&, const Arguments&) {
  return reply({{"known", known()}, {"peers", Json::parse(node_.state()->public_text(""))["peers"]}});
}
HttpReply Api::get_volumes(const HttpRequest&, const Arguments&) {
  return reply({{"known", known()}, {"volumes", Json::parse(node_.state()->public_text())["volumes"]}});
}
HttpReply Api::get_volume_names(const HttpRequest&, const Arguments&) {
  Json names = Json::array();
  const auto state = node_.state();
  for (const auto& [name, volume] : state->volumes) names.push_back(name);
  return reply({{"known", known()}, {"names", std::move(names)}});
}

HttpReply Api::get_volume(const HttpRequest&, const Arguments& arguments) {
  const auto state = node_.state();
  if (!state->volume(arguments.name)) return error_reply(404, "Volume " + arguments.name + " does not exist.");
  return reply({{"known", known()}, {"volume", Json::parse(state->public_text(arguments.name))["volumes"][arguments.name]}});
}

HttpReply Api::get_map(const HttpRequest&, const Arguments& arguments) {
  const auto found = node_.state()->volume(arguments.name);
  return found ? HttpReply{200, found->map.to_json(), "application/json"} : error_reply(404, "Volume " + arguments.name + " does not exist.");
}

HttpReply Api::get_options(const HttpRequest&, const Arguments&) {
  Json options = Json::array();
  for (const OptionInfo& option : option_table())
    options.push_back({{"key", option.key}, {"default", option.default_value}, {"range", range_of(option)}, {"meaning", option.meaning}});
  return reply({{"options", std::move(options)}});
}

HttpReply Api::get_events(const HttpRequest& request, const Arguments&) { return reply(events(request)); }
HttpReply Api::get_clients(const HttpRequest& request, const Arguments&) {
  return reply(clients(request.query.contains("volume") ? request.query.at("volume") : "all"));
}
HttpReply Api::get_doctor(const HttpRequest&, const Arguments&) { return reply(doctor()); }
HttpReply Api::get_token(const HttpRequest&, const Arguments&) {
  return reply({{"token", to_hex(node_.secret())}, {"api_token", node_.credentials().token}, {"authority", node_.credentials().tls->authority_pem()}});
}
HttpReply Api::get_backup(const HttpRequest&, const Arguments&) { return reply(node_.backup()); }

HttpReply Api::post_command(const HttpRequest&, const Arguments& arguments) { return reply(change(arguments.body)); }
HttpReply Api::post_probe(const HttpRequest&, const Arguments& arguments) {
  const Json& body = arguments.body;
  return outcome(node_.probe({body.at("address"), body.at("port").get<uint16_t>(), body.value("token", ""), body.value("replace", ""), body.value("witness", false)}));
}
HttpReply Api::post_recover(const HttpRequest&, const Arguments& arguments) {
  return outcome(node_.recover(arguments.body.at("lost").get<std::vector<std::string>>()));
}
HttpReply Api::post_restore(const HttpRequest&, const Arguments& arguments) {
  return outcome(node_.restore_backup(arguments.body.at("backup"), arguments.body.value("as", "")));
}
HttpReply Api::post_rotate(const HttpRequest&, const Arguments& arguments) { return reply(rotate_logs(arguments.body)); }

// Between nodes.
HttpReply Api::get_ping(const HttpRequest&, const Arguments&) {
  const ConsensusStatus log = node_.log_status();
  return reply({{"node", known()}, {"version", node_.state()->version}, {"leading", log.leading}, {"votes", node_.votes()},
                {"log", {{"last_term", log.last_term}, {"last_index", log.last_index}}}});
}
HttpReply Api::get_local_bricks(const HttpRequest& request, const Arguments&) { return reply({{"bricks", local_bricks(only_of(request))}}); }
HttpReply Api::get_local_doctor(const HttpRequest&, const Arguments&) { return reply(local_doctor()); }
HttpReply Api::post_local_commit(const HttpRequest&, const Arguments& arguments) { return reply(node_.commit_here(arguments.body)); }
HttpReply Api::post_local_probe(const HttpRequest&, const Arguments& arguments) { return outcome(node_.answer_probe(arguments.body)); }
HttpReply Api::post_local_renew(const HttpRequest&, const Arguments& arguments) { return outcome(node_.renew_peer(arguments.body)); }
HttpReply Api::post_local_rotate(const HttpRequest&, const Arguments& arguments) { return reply(local_rotate(arguments.body)); }
HttpReply Api::post_local_event(const HttpRequest&, const Arguments& arguments) {
  events_.told(arguments.body);
  return reply(Json{{"ok", true}});
}
HttpReply Api::post_local_validate(const HttpRequest&, const Arguments& arguments) {
  const auto checked = check_brick_path(arguments.body.at("path"), arguments.body.value("force", false));
  return reply(checked ? Json{{"ok", true}, {"run_dir", node_.options().run_dir}} : Json{{"ok", false}, {"error", checked.error()}});
}

}  // namespace voldfs::mgmt
