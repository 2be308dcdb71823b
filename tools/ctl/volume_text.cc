#include "tools/ctl/volume_text.h"

#include <cstdio>

#include "mgmt/options.h"
#include "tools/ctl/table.h"

namespace voldfs::ctl {

namespace {

constexpr char kLine[] = "------------------------------------------------------------------------------\n";

std::string brick_name(const Json& brick) {
  return brick.at("node").get<std::string>() + ":" + brick.at("path").get<std::string>();
}

std::string field(const char* name, const std::string& value) {
  char text[256];
  std::snprintf(text, sizeof text, "%-20s : %s\n", name, value.c_str());
  return text;
}

std::string pid_of(const Json& live) {
  return live.is_object() && live.contains("pid") ? std::to_string(live.at("pid").get<int>()) : "N/A";
}

// "?": nobody could say, or its process is there and has not answered.
std::string online_word(const Json& live) {
  if (live.is_object() && live.value("online", false)) return "Y";
  return live.is_null() || live.contains("pid") ? "?" : "N";
}

std::string brick_row(const Json& brick, const Json& live) {
  const std::string name = "Brick " + brick_name(brick);
  const std::string online = online_word(live);
  char port[32];
  std::snprintf(port, sizeof port, "%-9d ", brick.at("port").get<int>());
  const std::string text = port + coloured(online, online == "?" ? Colour::kWarning : online == "Y" ? Colour::kGood : Colour::kBad) + "       " + pid_of(live) + "\n";
  // As gluster breaks names that are too long for their column.
  std::string row;
  size_t at = 0;
  for (; name.size() - at > 44; at += 44) row += name.substr(at, 44) + "\n";
  std::string last = name.substr(at);
  last.resize(45, ' ');
  return row + last + text;
}

std::string brick_detail(const Json& brick, const Json& live) {
  std::string text = field("Brick", "Brick " + brick_name(brick));
  text += field("TCP Port", std::to_string(brick.at("port").get<int>()));
  text += field("Online", online_word(live));
  text += field("Pid", pid_of(live));
  if (live.is_object() && live.contains("since")) text += field("Up Since", time_text(live.at("since")) + " UTC");
  if (live.is_object() && live.contains("total_bytes")) {
    text += field("Disk Space Free", bytes_text(live.at("free_bytes")));
    text += field("Total Disk Space", bytes_text(live.at("total_bytes")));
    text += field("Inode Count", std::to_string(live.at("total_inodes").get<uint64_t>()));
    text += field("Free Inodes", std::to_string(live.at("free_inodes").get<uint64_t>()));
  }
  return text;
}

// A volume whose bricks have been made has been started before.
std::string status_word(const Json& volume) {
  if (volume.value("started", false)) return "Started";
  return volume.value("ready", Json::array()).empty() ? "Created" : "Stopped";
}

}  // namespace

std::string volume_info_text(const std::string& name, const Json& volume) {
  const Json& map = volume.at("map");
  const Json& bricks = map.at("bricks");
  std::string text = " \nVolume Name: " + name + "\nType: Distribute\nVolume ID: " + map.at("volume").at("id").get<std::string>() + "\nStatus: " +
                     status_word(volume) + "\nNumber of Bricks: " + std::to_string(bricks.size()) +
                     "\nTransport-type: tcp\nBricks:\n";
  size_t n = 0;
  for (const Json& brick : bricks) text += "Brick" + std::to_string(++n) + ": " + brick_name(brick) + "\n";
  const Json options = map.value("options", Json::object());
  if (!options.empty()) text += "Options Reconfigured:\n";
  for (const auto& [key, value] : options.items()) text += key + ": " + value.get<std::string>() + "\n";
  return text;
}

std::string volume_status_text(const std::string& name, const Json& volume, const Json& bricks, bool detail) {
  std::string text = "Status of volume: " + name + "\n";
  if (!detail) text += "Voldfs process                               TCP Port  Online  Pid\n";
  if (!detail) text += kLine;
  for (const Json& brick : volume.at("map").at("bricks")) {
    const Json live = bricks.value(brick.at("id").get<std::string>(), Json());
    text += detail ? kLine + brick_detail(brick, live) : brick_row(brick, live);
    if (live.is_object() && live.contains("trouble")) text += "  ! " + live.at("trouble").get<std::string>() + "\n";
  }
  if (!detail) text += " \n" + volume_tasks_text(name);
  return text;
}

std::string volume_tasks_text(const std::string& name) {
  return "Task Status of Volume " + name + "\n" + kLine + "There are no active volume tasks\n \n";
}

std::string volume_clients_text(const std::string& name, const Json& volume, const Json& bricks) {
  std::string text = "Client connections for volume " + name + "\n";
  for (const Json& brick : volume.at("map").at("bricks")) {
    const Json live = bricks.value(brick.at("id").get<std::string>(), Json());
    text += std::string(kLine) + "Brick : " + brick_name(brick) + "\n";
    if (!live.is_object() || !live.contains("clients")) {
      text += coloured("It does not answer.", Colour::kBad) + "\n";
      continue;
    }
    const Json& clients = live.at("clients");
    text += "Clients connected : " + std::to_string(clients.size()) + "\n";
    Table table({"Hostname", "BytesRead", "BytesWritten", "Requests", "Since", "Client"});
    for (const Json& client : clients) {
      table.add({client.value("host", "?"), std::to_string(client.value("bytes_out", uint64_t{0})), std::to_string(client.value("bytes_in", uint64_t{0})),
                 std::to_string(client.value("requests", uint64_t{0})), time_text(client.value("since", int64_t{0})), client.value("client", "").substr(0, 8)});
    }
    if (!clients.empty()) text += table.text();
  }
  return text + " \n";
}

std::string option_help_text() {
  std::string text;
  for (const mgmt::OptionInfo& option : mgmt::option_table()) {
    text += "Option: " + std::string(option.key) + "\nDefault Value: " + option.default_value + "\nRange: " + mgmt::range_of(option) +
            "\nDescription: " + option.meaning + "\n\n";
  }
  return text;
}

}  // namespace voldfs::ctl
