package main

import (
	"github.com/spf13/cobra"

	"jmlbridge/consumer/apply"
	"jmlbridge/consumer/state"
)

// completeHolds offers the ids of the holds that stand.
func (a *app) completeHolds(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(args, offerHolds(apply.Standing))
}

// completeDiscarded offers the ids of the holds that can be brought back.
func (a *app) completeDiscarded(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(args, offerHolds(state.DiscardedHolds))
}

func offerHolds(read func(state.Reader) ([]*state.Hold, error)) func(state.Reader) ([]string, error) {
	return func(r state.Reader) (list []string, err error) {
		holds, err := read(r)
		for _, h := range holds {
			list = append(list, cobra.CompletionWithDesc(h.Name(), h.Code))
		}
		return list, err
	}
}

// completeKeys offers the ids of the keys that are trusted.
func (a *app) completeKeys(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	return a.complete(args, func(r state.Reader) (list []string, err error) {
		all, err := state.Keys(r)
		for _, k := range all {
			list = append(list, cobra.CompletionWithDesc(k.KID, k.Stream+" of "+k.Issuer))
		}
		return list, err
	})
}

// complete offers what the database has for a command's one argument. A database that cannot be read offers
// nothing: a shell is no place for errors.
func (a *app) complete(args []string, offer func(state.Reader) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	db, _, err := a.openRead()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	defer db.Close()
	list, err := offer(db.Read())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return list, cobra.ShellCompDirectiveNoFileComp
}
