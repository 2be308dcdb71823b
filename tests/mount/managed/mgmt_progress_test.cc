#include <signal.h>
#include <sys/wait.h>

#include "tests/lib/mgmt_nodes.h"

// What voldctl shows on a terminal while it waits.

namespace voldfs {
namespace {

using namespace test;

class MgmtProgress : public MgmtNodes {
 protected:
  // voldctl with a terminal of its own for its output; all that it wrote there comes to be in `shown`.
  pid_t on_terminal(const Node& node, const std::string& words, const std::string& shown) {
    return spawn({"/usr/bin/script", "-qefc", std::string(VOLDFS_BINARY_DIR) + "/voldctl --run-dir=" + node.dir + "/run --state-dir=" + node.state() + " " + words, shown}, "/dev/null", "/dev/null");
  }
  static int end_of(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  static bool has(const std::string& file, const std::string& text) { return slurp(file).find(text) != std::string::npos; }
};

TEST_F(MgmtProgress, Start_BrickDoesNotCome_IsSaidOnATerminalAlone) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(1));
  const Node& node = nodes_[0];
  create_volume("vol");
  run(node, {"volume", "start", "vol"});
  run(node, {"volume", "stop", "vol"});
  fs::rename(node.brick("vol-brick"), node.brick("elsewhere"));
  const std::string person = top_ + "/person", program = top_ + "/program", json = top_ + "/json";
  const pid_t waiting = on_terminal(node, "volume start vol force", person), silent = on_terminal(node, "--mode=script volume start vol force", program),
              structured = on_terminal(node, "--json volume start vol force", json);
  EXPECT_TRUE(eventually([&] { return has(person, "\rvolume start: vol: 0 of 1 bricks are up, waiting for "); })) << slurp(person);
  fs::rename(node.brick("elsewhere"), node.brick("vol-brick"));
  EXPECT_EQ(end_of(waiting), 0) << slurp(person);
  end_of(silent);
  end_of(structured);
  // The line is gone in the end.
  EXPECT_TRUE(has(person, "\r\033[Kvolume start: vol: success")) << slurp(person);
  for (const std::string& quiet : {program, json}) EXPECT_FALSE(has(quiet, "\033[K")) << slurp(quiet);
}

TEST_F(MgmtProgress, Probe_NodeTakesLong_IsSaid) {
  ASSERT_NO_FATAL_FAILURE(add_nodes(2));
  ::kill(nodes_[1].pid, SIGSTOP);
  const std::string shown = top_ + "/shown";
  const pid_t probing = on_terminal(nodes_[0], "peer probe " + nodes_[1].address, shown);
  EXPECT_TRUE(eventually([&] { return has(shown, "peer probe: " + nodes_[1].address + " is being asked"); })) << slurp(shown);
  ::kill(nodes_[1].pid, SIGCONT);
  end_of(probing);
}

}  // namespace
}  // namespace voldfs
