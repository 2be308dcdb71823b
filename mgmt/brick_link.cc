#include "mgmt/brick_link.h"

#include <algorithm>
#include <atomic>
#include <future>

#include "brick/base/clock.h"
#include "brick/client/connection.h"
#include "mgmt/secret.h"

namespace voldfs::mgmt {

using nlohmann::json;

namespace {

constexpr size_t kAskedAtOnce = 32;

client::BrickAddress address_of(const BrickContact& contact) {
  client::BrickAddress address;
  address.brick = contact.brick.id;
  address.ordinal = contact.brick.ordinal;
  address.host = contact.brick.host;
  address.port = contact.brick.port;
  address.unix_socket = contact.brick.unix_socket;
  return address;
}

client::ClientOptions options_of(const BrickContact& contact, uint32_t timeout_ms) {
  client::ClientOptions options;
  options.volume = contact.volume;
  options.client = Id::random();
  const std::string secret = from_hex(contact.secret).value_or("");
  options.secret.assign(secret.begin(), secret.end());
  options.connect_timeout_ms = timeout_ms;
  return options;
}

json ask_one(const BrickContact& contact, int64_t timeout_ms) {
  const json down = {{"online", false}};
  if (timeout_ms <= 0) return down;
  const auto answer = client::ask(address_of(contact), options_of(contact, static_cast<uint32_t>(timeout_ms)), wire::Op::kStatus);
  if (!answer) return down;
  const auto* text = reinterpret_cast<const char*>(answer->data());
  const json status = json::parse(text, text + answer->size(), nullptr, false);
  if (!status.is_object()) return down;
  json out = {{"online", true}};
  const std::pair<const char*, const char*> fields[] = {
      {"pid", "pid"}, {"listen", "listen"}, {"started", "since"}, {"map_version", "map_version"}, {"bytes_total", "total_bytes"},
      {"bytes_available", "free_bytes"}, {"inodes_total", "total_inodes"}, {"inodes_free", "free_inodes"},
      {"clients", "clients"}};
  for (const auto& [theirs, ours] : fields) {
    if (const auto found = status.find(theirs); found != status.end()) out[ours] = *found;
  }
  return out;
}

}  // namespace

std::vector<json> ask_bricks(const std::vector<BrickContact>& bricks, uint32_t timeout_ms) {
  std::vector<json> answers(bricks.size());
  std::atomic<size_t> next{0};
  const int64_t until = boottime_ms() + timeout_ms;
  const auto work = [&] {
    for (size_t i; (i = next.fetch_add(1)) < bricks.size();) answers[i] = ask_one(bricks[i], until - boottime_ms());
  };
  std::vector<std::future<void>> workers;
  for (size_t i = 1; i < std::min(bricks.size(), kAskedAtOnce); ++i) workers.push_back(std::async(std::launch::async, work));
  work();
  workers.clear();  // waits for them
  return answers;
}

std::string endpoint_of(const dht::BrickEntry& brick) {
  return (brick.host.find(':') == std::string::npos ? brick.host : "[" + brick.host + "]") + ":" + std::to_string(brick.port);
}

Result<void> push_map(const BrickContact& brick, const std::string& map, uint32_t timeout_ms) {
  const auto bytes = std::as_bytes(std::span(map));
  const auto put = client::ask(address_of(brick), options_of(brick, timeout_ms), wire::Op::kMapPut, bytes);
  return put ? Result<void>{} : fail(put.error());
}

}  // namespace voldfs::mgmt
