#include "tools/ctl/command.h"

#include <iostream>
#ifdef VOLDFS_HAVE_MGMT
#include "tools/ctl/state_source.h"
#endif

namespace voldfs::ctl {
namespace {

std::string dump(const nlohmann::json& json) {
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

std::string verbs_of(const CLI::App& noun) {
  std::string names;
  for (const CLI::App* verb : noun.get_subcommands([](const CLI::App*) { return true; })) names += (names.empty() ? "" : ", ") + verb->get_name();
  return names;
}

// What is wrong with a line that names no verb there is; empty: it is something else.
std::string wrong_verb(const CLI::App& app, int argc, const char* const* argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.starts_with("-")) {
      const CLI::Option* option = app.get_option_no_throw(word);
      i += option && option->get_items_expected_min() > 0;  // its value
      continue;
    }
    if (at->get_require_subcommand_min() == 0) return "";
    const auto verbs = at->get_subcommands([&](const CLI::App* verb) { return verb->get_name() == word; });
    if (verbs.empty()) return "There is no " + (at == &app ? "\"" + word + "\"; there are: " : "`" + at->get_name() + " " + word + "`; there are: ") + verbs_of(*at) + ".";
    at = verbs.front();
  }
  return at->get_require_subcommand_min() == 0 ? "" : (at == &app ? "Say what to do: " : "Say what to do with `" + at->get_name() + "`: ") + verbs_of(*at) + ".";
}

int print(const Explained<Report>& report, bool as_json) {
  if (!report) {
    if (as_json) std::cout << dump({{"error", report.error()}});
    std::cerr << "voldctl: " << report.error() << '\n';
    return kExitFailed;
  }
  if (!report->printed) std::cout << (as_json ? dump(report->json) : report->text) << std::flush;
  if (!report->note.empty()) std::cerr << "voldctl: " << report->note << '\n';
  if (std::cout) return report->exit_code;
  std::cerr << "voldctl: The output could not be written.\n";
  return kExitFailed;
}

}  // namespace

int run(int argc, const char* const* argv) {
  CLI::App app("Administers voldfs volumes.", "voldctl");
  app.fallthrough();  // --json may stand behind the verb
  app.require_subcommand(1);
  bool as_json = false;
  app.set_version_flag("--version", "voldctl " VOLDFS_VERSION);
  app.add_flag("--json", as_json, "Print JSON, for programs");
  Chosen chosen;
  add_map_commands(app, chosen);
  add_brick_commands(app, chosen);
#ifdef VOLDFS_HAVE_MGMT
  const auto place = std::make_shared<Place>();
  std::string mode = "interactive";
  app.add_option("--run-dir", place->run_dir, "Where voldmgmt's socket is")->type_name("DIR")->envname("VOLDFS_RUN_DIR");
  app.add_option("--state-dir", place->state_dir, "voldmgmt's state, for when it does not run")->type_name("DIR")->envname("VOLDFS_STATE_DIR");
  app.add_option("--conf-dir", place->conf_dir, "voldmgmt's configuration, for `doctor` when it does not run")->type_name("DIR")->envname("VOLDFS_CONF_DIR");
  app.add_option("--mode", mode, "script: no questions are asked")->type_name("MODE")->check(CLI::IsMember({"script", "interactive"}));
  app.add_flag("-y,--yes", place->script, "The answer to every question");
  add_volume_commands(app, chosen, place);
  add_peer_commands(app, chosen, place);
  add_cluster_commands(app, chosen, place);
#endif
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (const std::string wrong = error.get_exit_code() == 0 ? "" : wrong_verb(app, argc, argv); !wrong.empty()) {
      std::cerr << "voldctl: " << wrong << " voldctl --help tells more.\n";
      return kExitUsage;
    }
    return app.exit(error) == 0 ? kExitDone : kExitUsage;  // 0: --help, --version
  }
#ifdef VOLDFS_HAVE_MGMT
  if (mode == "script") place->script = true;
  place->json = as_json;
#endif
  try {
    return print(chosen.action(), as_json);
  } catch (const std::exception& error) {  // what another program answered or wrote is not as it should be
    return print(explain(std::string("The answer was not understood: ") + error.what()), as_json);
  }
}

}  // namespace voldfs::ctl
