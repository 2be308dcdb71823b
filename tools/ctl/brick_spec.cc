#include "tools/ctl/brick_spec.h"

#include <netdb.h>
#include <sys/socket.h>

#include <array>
#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>

namespace voldfs::ctl {
namespace {

std::optional<uint16_t> parse_port(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc() || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// Takes HOST and the colon behind it from the front of `text`; empty if there is none.
std::string take_host(std::string_view& text) {
  size_t begin = 0, end, next;
  if (text.substr(0, 1) == "[") {
    begin = 1, end = text.find(']'), next = end == std::string_view::npos ? end : end + 1;
  } else {
    end = next = text.find(':');
  }
  if (end == std::string_view::npos || next >= text.size() || text[next] != ':') return {};
  std::string host(text.substr(begin, end - begin));
  text.remove_prefix(next + 1);
  return host;
}

}  // namespace

Explained<BrickSpec> parse_brick_spec(std::string_view text) {
  const std::string whole(text);
  const auto refuse = [&](const char* why) { return explain("\"" + whole + "\" " + why + ": a brick is HOST:/PATH or HOST:/PATH:PORT."); };
  BrickSpec spec;
  spec.host = take_host(text);
  if (spec.host.empty()) return refuse("names no host");
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos && is_number(text.substr(colon + 1))) {
    const auto port = parse_port(text.substr(colon + 1));
    if (!port) return refuse("has a port that is none");
    spec.port = *port;
    text = text.substr(0, colon);
  }
  if (text.empty() || text[0] != '/') return refuse("has no absolute path");
  const auto below = std::filesystem::path(text).lexically_normal().relative_path();
  if (below.empty()) return refuse("would make all of its host a brick");
  spec.path = '/' + (below.has_filename() ? below : below.parent_path()).string();
  return spec;
}

Explained<HostPort> parse_host_port(std::string_view text) {
  const std::string whole(text);
  HostPort found;
  found.host = take_host(text);
  const auto port = parse_port(text);
  if (found.host.empty() || !port) return explain("\"" + whole + "\" is not HOST:PORT.");
  found.port = *port;
  return found;
}

Explained<std::string> resolve(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) return explain("The host " + host + " has no address: " + ::gai_strerror(error) + '.');
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::array<char, NI_MAXHOST> literal{};
  const int printed = ::getnameinfo(list->ai_addr, list->ai_addrlen, literal.data(), literal.size(), nullptr, 0, NI_NUMERICHOST);
  if (printed != 0) return explain("The address of " + host + " cannot be printed: " + ::gai_strerror(printed) + '.');
  return std::string(literal.data());
}

}  // namespace voldfs::ctl
