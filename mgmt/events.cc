#include "mgmt/events.h"

#include <spdlog/spdlog.h>

#include <chrono>
#include <future>

namespace voldfs::mgmt {

namespace {

constexpr int kTellPeerTimeoutMs = 700;
constexpr int kWebhookTimeoutMs = 2000;
constexpr int kWebhookTries = 3;

// ISO 8601 with milliseconds, UTC.
std::string now_text() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[64];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min,
                utc.tm_sec, static_cast<int>(ms));
  return text;
}

struct EventKind {
  const char* op;
  const char* type;
};
constexpr EventKind kKinds[] = {
    {"cluster-init", "cluster.created"},     {"cluster-replace", "cluster.replaced"}, {"peer-add", "peer.joined"},
    {"peer-remove", "peer.left"},            {"peer-set-address", "peer.changed"},    {"peer-set-role", "peer.role"},
    {"peer-renew", "peer.renewed"},          {"voter-replace", "peer.role"},          {"volume-create", "volume.created"},
    {"volume-start", "volume.started"},      {"volume-stop", "volume.stopped"},       {"volume-delete", "volume.deleted"},
    {"volume-set", "volume.options-set"},    {"volume-reset", "volume.options-reset"}, {"volume-rename", "volume.renamed"},
};

}  // namespace

Json event_of(const ClusterState& before, const Json& command, const Json& result) {
  if (!command.is_object() || !result.value("ok", false) || result.value("already", false)) return nullptr;
  const std::string op = command.value("op", "");
  const auto* kind = std::find_if(std::begin(kKinds), std::end(kKinds), [&](const EventKind& each) { return op == each.op; });
  if (kind == std::end(kKinds)) return nullptr;
  // Fields that are chosen, for a command may carry secrets.
  Json data = {{"command", command.at("id")}, {"version", result.at("version")}};
  for (const char* key : {"volume", "to", "options", "keys", "address", "role", "force"}) {
    if (command.contains(key)) data[key] = command.at(key);
  }
  for (const char* key : {"peer", "lost", "standby"}) {
    const auto found = command.find(key);
    if (found == command.end()) continue;
    if (found->is_object()) data[key] = found->value("name", "");
    if (!found->is_string()) continue;
    const Peer* peer = before.peer_named(found->get_ref<const std::string&>());
    data[key] = peer ? peer->name : found->get<std::string>();
  }
  return {{"type", kind->type}, {"data", std::move(data)}};
}

Events::Events(Node& node) : node_(node), stream_(Id::random().hex()) {
  sender_ = std::thread([this] { send_loop(); });
}

Events::~Events() {
  stop();
  sender_.join();
}

void Events::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  added_.notify_all();
  unsent_changed_.notify_all();
}

void Events::changed(const std::string& type, Json data) { note(type, std::move(data), true); }

void Events::seen(const std::string& type, Json data) { note(type, std::move(data), false); }

Json Events::note(const std::string& type, Json data, bool from_state) {
  Json event = {{"time", now_text()}, {"node", node_.identity().name}, {"type", type}, {"data", std::move(data)}};
  {
    const std::lock_guard lock(mutex_);
    event["number"] = ++last_;
    kept_.push_back(event);
    if (kept_.size() > kEventsKept) kept_.pop_front();
    unsent_.push_back({event, !from_state});
    if (unsent_.size() > kEventsUnsentMax) {
      unsent_.pop_front();
      ++dropped_;
    }
  }
  added_.notify_all();
  unsent_changed_.notify_all();
  return event;
}

void Events::told(const Json& told) {
  Json event = {{"time", told.at("time").get<std::string>()}, {"node", told.at("node").get<std::string>()},
                {"type", told.at("type").get<std::string>()}, {"data", told.at("data")}};
  {
    const std::lock_guard lock(mutex_);
    event["number"] = ++last_;
    kept_.push_back(std::move(event));
    if (kept_.size() > kEventsKept) kept_.pop_front();
  }
  added_.notify_all();
}

Json Events::after(const std::string& stream, uint64_t number, int wait_ms) {
  std::unique_lock lock(mutex_);
  bool missed = stream != stream_ && !stream.empty();
  if (stream != stream_) number = 0;
  if (last_ <= number && wait_ms > 0 && followers_ < kEventFollowersMax) {
    ++followers_;
    added_.wait_for(lock, std::chrono::milliseconds(std::min(wait_ms, kEventsWaitMaxMs)), [&] { return last_ > number || stopping_; });
    --followers_;
  }
  const uint64_t oldest = last_ - kept_.size() + 1;  // number of the first that is kept
  if (stream == stream_ && number + 1 < oldest) missed = true;
  Json events = Json::array();
  for (uint64_t at = std::max(number + 1, oldest); at <= last_ && events.size() < kEventsAnswerMax; ++at)
    events.push_back(kept_[static_cast<size_t>(at - oldest)]);
  const uint64_t next = events.empty() ? std::max(number, last_) : events.back().at("number").get<uint64_t>();
  return {{"stream", stream_}, {"next", next}, {"missed", missed}, {"events", std::move(events)}};
}

void Events::send_loop() {
  for (;;) {
    Unsent unsent;
    {
      std::unique_lock lock(mutex_);
      unsent_changed_.wait(lock, [&] { return stopping_ || !unsent_.empty(); });
      if (stopping_) return;
      unsent = std::move(unsent_.front());
      unsent_.pop_front();
      if (const uint64_t dropped = std::exchange(dropped_, 0)) spdlog::warn("events dropped count={} reason=\"peers or webhooks are too slow\"", dropped);
    }
    send(unsent);
  }
}

void Events::send(const Unsent& unsent) {
  const auto state = node_.state();
  const Id me = node_.identity().node;
  std::vector<std::future<void>> told;
  for (const auto& [id, peer] : state->peers) {
    if (!unsent.to_peers || id == me || state->retired.contains(peer.voter)) continue;
    told.push_back(std::async(std::launch::async, [&, peer = peer] {
      static_cast<void>(node_.call_peer(peer, "POST", "/v1/local/event", unsent.event, kTellPeerTimeoutMs));  // best effort
    }));
  }
  for (auto& each : told) each.wait();
  if (!unsent.to_peers && !node_.leading()) return;
  for (const std::string& url : state->webhooks) {
    Explained<void> posted = explain("");
    for (int i = 0; i < kWebhookTries && !posted; ++i) {
      posted = http_post_url(url, unsent.event.dump(), kWebhookTimeoutMs);
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    if (!posted) spdlog::warn("webhook not posted url={} event={} reason=\"{}\"", url, unsent.event.value("type", ""), posted.error());
  }
}

}  // namespace voldfs::mgmt
