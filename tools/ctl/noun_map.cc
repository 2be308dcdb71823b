#include <filesystem>
#include <memory>
#include <sstream>

#include "tools/ctl/command.h"
#include "tools/ctl/map_create.h"

// voldctl map: volume map files, for volumes without a management daemon.
namespace voldfs::ctl {
namespace {

using nlohmann::json;

const char* name_of(dht::BrickState state) {
  switch (state) {
    case dht::BrickState::kActive: return "active";
    case dht::BrickState::kLeaving: return "leaving";
    case dht::BrickState::kGone: return "gone";
  }
  return "?";
}

// HOST:/PATH as `map create` takes it.
std::string place_of(const dht::BrickEntry& brick) {
  const bool is_ipv6 = brick.node.find(':') != std::string::npos;
  return (is_ipv6 ? '[' + brick.node + ']' : brick.node) + ':' + brick.path;
}

// As `gluster volume info` has it, where that has it.
std::string describe(const dht::VolumeMap& map) {
  std::ostringstream out;
  out << "Volume Name: " << map.name << '\n'
      << "Type: Distribute\n"
      << "Volume ID: " << map.volume.uuid() << '\n'
      << "Map: version " << map.version << ", incarnation " << map.incarnation.uuid() << '\n'
      << "Number of Bricks: " << map.bricks.size() << '\n'
      << "Bricks:\n";
  for (const dht::BrickEntry& brick : map.bricks) {
    out << "Brick" << brick.ordinal << ": " << place_of(brick) << '\n'
        << "    ID: " << brick.id.uuid() << '\n'
        << "    Address: " << brick.host << " port " << brick.port << '\n';
    if (!brick.unix_socket.empty()) out << "    Socket: " << brick.unix_socket << '\n';
    out << "    Weight: " << brick.weight << '\n'
        << "    State: " << name_of(brick.state) << (brick.ordinal == map.root_home ? ", home of the root" : "") << '\n';
  }
  if (!map.options.empty()) out << "Options:\n";
  for (const auto& [key, value] : map.options) out << key << ": " << value << '\n';
  return out.str();
}

struct CreateArguments {
  std::string out, name, unix_dir = "/run/voldfs";
  std::vector<std::string> bricks;
  uint16_t port_base = 24200;
};

Explained<Report> create(const CreateArguments& arguments) {
  NewVolume volume;
  volume.name = arguments.name;
  volume.port_base = arguments.port_base;
  if (!arguments.unix_dir.empty()) volume.unix_dir = std::filesystem::absolute(arguments.unix_dir);
  for (const std::string& text : arguments.bricks) {
    auto spec = parse_brick_spec(text);
    if (!spec) return explain(spec.error());
    volume.bricks.push_back(std::move(*spec));
  }
  const auto map = make_map(volume);
  if (!map) return explain(map.error());
  if (auto written = write_map_and_secret(*map, arguments.out); !written) return explain(written.error());
  const std::string secret = arguments.out + ".secret";
  return Report{"Wrote " + arguments.out + " and " + secret + ". Both belong on every machine that has a brick or a mount of it.\n",
                {{"map", arguments.out}, {"secret", secret}, {"volume", json::parse(map->to_json())}}};
}

Explained<Report> show(const std::string& path) {
  const auto map = read_map(path);
  if (!map) return explain(map.error());
  return Report{describe(*map), json::parse(map->to_json())};
}

struct PlaceArguments {
  std::string map, dir = kRootId.uuid();
  std::vector<std::string> names;
};

Explained<Report> place(const PlaceArguments& arguments) {
  const auto map = read_map(arguments.map);
  if (!map) return explain(map.error());
  const auto dir = Id::parse(arguments.dir);
  if (!dir) return explain("\"" + arguments.dir + "\" is not the id of a directory: 32 hexadecimal digits.");
  Report report;
  report.json = json::array();
  for (const std::string& name : arguments.names) {
    const dht::BrickEntry* brick = map->brick(map->newest_layout().place(*dir, name));  // parse() made sure of one
    report.text += name + ": Brick" + std::to_string(brick->ordinal) + ' ' + place_of(*brick) + '\n';
    report.json.push_back({{"name", name}, {"ordinal", brick->ordinal}, {"brick", brick->id.uuid()}, {"path", brick->path}});
  }
  return report;
}

}  // namespace

void add_map_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* map = app.add_subcommand("map", "Volume map files");
  map->require_subcommand(1);

  const auto create_arguments = std::make_shared<CreateArguments>();
  CLI::App* verb = map->add_subcommand("create", "Make the map of a new volume, and its secret");
  verb->add_option("--out", create_arguments->out, "File to write; the secret goes to FILE.secret")->required()->type_name("FILE");
  verb->add_option("--port-base", create_arguments->port_base, "First port of bricks that name none (24200)")
      ->check(CLI::Range(1, 65535))->type_name("PORT");
  verb->add_option("--unix-dir", create_arguments->unix_dir, "Directory of the bricks' unix sockets; empty: no sockets (/run/voldfs)")
      ->type_name("DIR");
  verb->add_option("NAME", create_arguments->name, "Name of the volume")->required()->type_name("");
  verb->add_option("BRICK", create_arguments->bricks, "HOST:/PATH or HOST:/PATH:PORT")->required()->type_name("");
  verb->callback([&chosen, create_arguments] { chosen.action = [=] { return create(*create_arguments); }; });

  const auto shown = std::make_shared<std::string>();
  verb = map->add_subcommand("show", "Print a map");
  verb->add_option("FILE", *shown, "The map")->required()->type_name("");
  verb->callback([&chosen, shown] { chosen.action = [=] { return show(*shown); }; });

  const auto place_arguments = std::make_shared<PlaceArguments>();
  verb = map->add_subcommand("place", "Tell on which brick new names belong");
  verb->add_option("--dir", place_arguments->dir, "Id of the directory (the root)")->type_name("ID");
  verb->add_option("FILE", place_arguments->map, "The map")->required()->type_name("");
  verb->add_option("NAME", place_arguments->names, "Names in the directory")->required()->type_name("");
  verb->callback([&chosen, place_arguments] { chosen.action = [=] { return place(*place_arguments); }; });
}

}  // namespace voldfs::ctl
