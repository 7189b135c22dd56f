//===- Module.cpp - Modules, devices and launches -------------------------===//
//
// Part of moe-mlir, under the Apache License v2.0 with LLVM Exceptions.
// See LICENSE for license information.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "Warp.h"

#include <algorithm>

using namespace moe;
using namespace moe::emulator;

Module::Module() = default;
Module::~Module() = default;

io::Expected<std::unique_ptr<Module>> Module::load(std::string_view text,
                                                   const std::string &name) {
  std::unique_ptr<Module> module(new Module());
  auto program = decodeProgram(text, name, module->infos);
  if (!program)
    return program.error();
  module->program = std::move(*program);
  return module;
}

std::vector<KernelInfo> Module::kernels() const { return infos; }

const KernelInfo *Module::findKernel(std::string_view name) const {
  for (const KernelInfo &info : infos)
    if (info.name == name)
      return &info;
  return nullptr;
}

std::optional<uint64_t> Module::findVariable(std::string_view name) const {
  for (const ModuleVariable &variable : program->variables)
    if (variable.name == name)
      return reinterpret_cast<uint64_t>(variable.data);
  return std::nullopt;
}

Device::Device() : memory(std::make_unique<GlobalMemory>()) {}
Device::~Device() = default;

io::Expected<uint64_t> Device::allocate(size_t bytes, const std::string &name) {
  return memory->allocate(bytes, name);
}

io::Status Device::addHostMemory(void *data, size_t bytes,
                                 const std::string &name, bool written) {
  return memory->add(data, bytes, name, written);
}

bool Device::release(uint64_t address) { return memory->remove(address); }

static io::Error noMemory(const GlobalMemory &memory, uint64_t address) {
  return io::Error{"a copy of memory that is " + memory.describe(address)};
}

io::Status Device::write(uint64_t address, const void *data, size_t bytes) {
  Allocation *allocation = memory->find(address, bytes);
  if (!allocation)
    return noMemory(*memory, address);
  if (bytes) {
    std::memcpy(reinterpret_cast<void *>(address), data, bytes);
    std::memset(&allocation->written[address - allocation->begin], 1, bytes);
  }
  return io::Success();
}

io::Status Device::fill(uint64_t address, uint8_t value, size_t bytes) {
  Allocation *allocation = memory->find(address, bytes);
  if (!allocation)
    return noMemory(*memory, address);
  if (bytes) {
    std::memset(reinterpret_cast<void *>(address), value, bytes);
    std::memset(&allocation->written[address - allocation->begin], 1, bytes);
  }
  return io::Success();
}

io::Status Device::read(void *data, uint64_t address, size_t bytes) const {
  if (!memory->find(address, bytes))
    return noMemory(*memory, address);
  if (bytes)
    std::memcpy(data, reinterpret_cast<const void *>(address), bytes);
  return io::Success();
}

io::Expected<size_t> Device::countUnwritten(uint64_t address,
                                            size_t bytes) const {
  Allocation *allocation = memory->find(address, bytes);
  if (!allocation)
    return noMemory(*memory, address);
  auto begin =
      allocation->written.begin() + std::ptrdiff_t(address - allocation->begin);
  return size_t(std::count(begin, begin + std::ptrdiff_t(bytes), 0));
}

Snapshot Device::save() const { return memory->save(); }

io::Status Device::restore(const Snapshot &snapshot) {
  return memory->restore(snapshot);
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

static std::string dimText(const Dim3 &dim) {
  return std::to_string(dim.x) + "," + std::to_string(dim.y) + "," +
         std::to_string(dim.z);
}

/// The rules that all devices share; what one device has less of is its own.
static io::Status checkLaunch(const KernelInfo &info,
                              const LaunchOptions &options, size_t bytes) {
  const Dim3 &block = options.block, &grid = options.grid;
  if (block.count() == 0 || grid.count() == 0)
    return io::Error{"a launch of no threads: grid " + dimText(grid) +
                     ", block " + dimText(block)};
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || block.count() > 1024)
    return io::Error{"a block of " + dimText(block) +
                     " threads; 1024,1024,64 and 1024 in all are the most"};
  if (grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu ||
      grid.count() > 0x7fffffffu)
    return io::Error{"a grid of " + dimText(grid) +
                     " blocks; 2147483647,65535,65535 are the most"};
  if (info.requiredBlock) {
    const Dim3 &need = *info.requiredBlock;
    if (need.x != block.x || need.y != block.y || need.z != block.z)
      return io::Error{"a block of " + dimText(block) + " threads, but '" +
                       info.name + "' requires " + dimText(need)};
  }
  if (info.maxThreads && block.count() > *info.maxThreads)
    return io::Error{"a block of " + std::to_string(block.count()) +
                     " threads, but '" + info.name + "' allows " +
                     std::to_string(*info.maxThreads)};
  if (options.dynamicShared > (1u << 20))
    return io::Error{std::to_string(options.dynamicShared) +
                     " bytes of dynamic shared memory; no device has that"};
  if (bytes != info.paramBytes)
    return io::Error{"'" + info.name + "' takes " +
                     std::to_string(info.paramBytes) +
                     " bytes of arguments, not " + std::to_string(bytes)};
  return io::Success();
}

io::Expected<LaunchResult>
Device::launch(const Module &module, std::string_view kernel,
               const LaunchOptions &options,
               const std::vector<uint8_t> &arguments) {
  const Program &program = module.getProgram();
  const KernelInfo *info = module.findKernel(kernel);
  if (!info)
    return io::Error{"there is no kernel '" + std::string(kernel) + "'"};
  if (io::Status status = checkLaunch(*info, options, arguments.size());
      !status)
    return status.error();
  for (const ModuleVariable &variable : program.variables)
    if (!memory->find(reinterpret_cast<uint64_t>(variable.data),
                      variable.bytes))
      if (io::Status status =
              memory->add(variable.data, variable.bytes, variable.name, true,
                          variable.isConst);
          !status)
        return status.error();

  Launch launch;
  launch.program = &program;
  for (const FunctionCode &function : program.functions)
    if (function.name == kernel)
      launch.kernel = &function;
  launch.options = options;
  launch.memory = memory.get();
  launch.params = &arguments;
  launch.matrixCounts.assign(program.names.size(), 0);
  if (options.countLines)
    launch.counts.resize(program.code.size());
  launch.firstBlock = blocksSoFar;
  // Numbers of blocks tell launches apart in the shadows of memory.
  blocksSoFar += uint32_t(options.grid.count());
  runLaunch(launch);

  LaunchResult result;
  result.completed = !launch.stop;
  result.reports = std::move(launch.reports);
  result.statistics = std::move(launch.stats);
  for (size_t i = 0; i < launch.matrixCounts.size(); ++i)
    if (launch.matrixCounts[i])
      result.statistics.matrix[program.names[i]] += launch.matrixCounts[i];
  for (size_t i = 0; i < launch.counts.size(); ++i)
    if (const LineCount &count = launch.counts[i]; count.reached) {
      LineCount &line = result.lines[program.code[i].line];
      line.reached += count.reached;
      line.executed += count.executed;
    }
  // The module may go before the device does.
  for (const ModuleVariable &variable : program.variables)
    memory->remove(reinterpret_cast<uint64_t>(variable.data));
  return result;
}
