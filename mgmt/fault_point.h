#pragma once

#include <string>
#include <string_view>

// Places at which a test ends this process, makes it slow, or cuts it off from others. Nothing happens, and nothing is spent, unless the
// environment variable VOLDFS_MGMT_FAULTS names a directory DIR. Any thread.
namespace voldfs::mgmt {

// A step of a change. DIR/seen/NAME is made, so that a test learns which steps a command has on which node; if there is a
// file DIR/kill/NAME, it is removed, and the process ends as by kill -9; if there is a file DIR/slow/NAME, the step takes the
// milliseconds that stand in it, or until the file is gone.
void fault_point(std::string_view name);
// The same of a step with one of this node's files: "file.KIND.STEP", its kind as in "map.json", "brick.conf", "state.json".
void fault_point_of_file(std::string_view path, const char* step);

// Whether a test has cut the way from this process to the address: there is a file DIR/cut/ADDRESS.
bool cut_off(const std::string& address);
// The same of new entries of the log alone: DIR/cut/ADDRESS.entries. So a leader leads, and nothing is agreed on.
bool entries_cut_off(const std::string& address);

}  // namespace voldfs::mgmt
