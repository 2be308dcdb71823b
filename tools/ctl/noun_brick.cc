#include <filesystem>
#include <memory>

#include "brick/store/store.h"
#include "tools/ctl/brick_start.h"
#include "tools/ctl/command.h"

// voldctl brick: brick directories of this machine.
namespace voldfs::ctl {
namespace {

struct InitArguments {
  std::string path, map, brick;
};

Explained<Report> init(const InitArguments& arguments) {
  store::StoreOptions options;
  options.path = std::filesystem::absolute(arguments.path);
  options.map_file = arguments.map;
  if (!arguments.brick.empty()) {
    const auto id = Id::parse(arguments.brick);
    if (!id) return explain("\"" + arguments.brick + "\" is not a brick's id: 32 hexadecimal digits, see `voldctl map show`.");
    options.brick = *id;
  }
  if (auto made = store::Store::init(options); !made) return explain(made.error());
  return Report{options.path + " is a brick now.\n", {{"path", options.path}, {"map", options.map_file}}};
}

}  // namespace

void add_brick_commands(CLI::App& app, Chosen& chosen) {
  CLI::App* brick = app.add_subcommand("brick", "Brick directories of this machine");
  brick->require_subcommand(1);

  const auto arguments = std::make_shared<InitArguments>();
  CLI::App* verb = brick->add_subcommand("init", "Make a directory a brick; files in it are adopted");
  verb->add_option("--path", arguments->path, "The directory")->required()->type_name("DIR");
  verb->add_option("--map", arguments->map, "The volume's map; its secret is FILE.secret")->required()->type_name("FILE");
  verb->add_option("--brick", arguments->brick, "Which of the map's bricks it is (the one with this path)")->type_name("ID");
  verb->callback([&chosen, arguments] { chosen.action = [=] { return init(*arguments); }; });

  struct StartArguments {
    std::string conf_dir = "/etc/voldfs", which;
  };
  const auto starting = std::make_shared<StartArguments>();
  verb = brick->add_subcommand("start", "Start a brick of this machine, also where voldmgmt does not run");
  verb->add_option("BRICK", starting->which, "Its directory or its id")->required()->type_name("");
  verb->add_option("--conf-dir", starting->conf_dir, "voldmgmt's configuration, with the bricks' flags in it")->type_name("DIR")->envname("VOLDFS_CONF_DIR");
  verb->callback([&chosen, starting] { chosen.action = [=] { return start_brick(starting->conf_dir, starting->which); }; });
}

}  // namespace voldfs::ctl
